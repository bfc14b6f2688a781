"""What a released model is worth to somebody who fine-tunes it: every attacker against one reference."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from pydantic import Field, field_validator
from torch import nn

from freehold import report
from freehold.attacks.attacker import ATTACKERS, Attacker, Start, released, scratch, untrained
from freehold.attacks.learning_curve import BUDGETS, SIZES, Budget, Grid, attackers_share, learning_curve
from freehold.config import Config
from freehold.data.domain import Domain
from freehold.errors import DataError
from freehold.metrics.learning_curve import SLC, LearningCurve, check_sizes, slc_auc
from freehold.models.anatomy import maskable_weights
from freehold.models.checkpoint import Recipe
from freehold.models.zoo import ModelSpec
from freehold.settings import Settings


@dataclass(frozen=True)
class Learned:
    """Learning curves on one unauthorized domain.

    Attributes:
        domain: its name.
        curves: by attacker and budget, the references among them.
        areas: SLC-AUC of every attacker, the worst for the defender first.
        unprotected: SLC-AUC of the model before protection; where it is not above 0, the pair shows nothing.
    """

    domain: str
    curves: dict[str, LearningCurve]
    areas: tuple[SLC, ...]
    unprotected: SLC | None

    def to_json(self) -> dict[str, Any]:
        """As JSON-able data."""
        return {
            "domain": self.domain,
            "areas": [area.model_dump(mode="json") for area in self.areas],
            "unprotected": self.unprotected and self.unprotected.model_dump(mode="json"),
            "curves": {name: curve.model_dump(mode="json") for name, curve in self.curves.items()},
        }

    def for_page(self) -> report.Learning:
        """As the page draws it."""
        first = self.areas[0]
        attacked = [
            report.Attacked(
                area.attacker,
                area.budget,
                self.curves[_key(area.attacker, area.budget)].mean,
                area.value,
                area.normalised,
                None if area.low is None or area.high is None else (area.low, area.high),
            )
            for area in (*self.areas, *((self.unprotected,) if self.unprotected else ()))
        ]
        baseline = self.curves[_key(first.reference, first.budget)]
        return report.Learning(
            self.domain,
            baseline.sizes,
            _PLAIN[first.reference],
            baseline.mean,
            attacked,
            len(baseline.accuracies),
        )


_PLAIN = {"scratch": "training from scratch", "unprotected": "the unprotected model"}


class LearningCurves(Settings):
    """How ``freehold evaluate --slc`` fine-tunes; everything else is the same for all attackers."""

    sizes: tuple[int, ...] | None = Field(
        None, description="labelled images, strictly ascending; by default from 10 up to what there is"
    )
    seeds: int = Field(3, ge=1, le=1000, description="repeats")
    reference: Literal["scratch", "unprotected"] = Field(
        "scratch", description="what the model is held against"
    )

    @field_validator("sizes")
    @classmethod
    def _ascending(cls, sizes: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if sizes is not None:
            check_sizes(sizes)
        return sizes

    def measure(
        self, shipped: nn.Module, original: nn.Module, domain: Domain, recipe: Recipe, config: Config
    ) -> Learned:
        """Fine-tune ``shipped`` on ``domain`` as every attacker would.

        The attackers learn from the validation images, which no method trains on. The worst of them is
        measured once more with the best of several learning rates, and so is the reference.

        Args:
            shipped: the released model.
            original: the model before protection.
            domain: an unauthorized one.
            recipe: of both models.
            config: seed and execution settings.

        Raises:
            DataError: too few images for the sizes asked for.
        """
        spec, classes, thief = recipe.input, domain.num_classes, attackers_share(domain)
        sizes = self.sizes or tuple(n for n in SIZES if n <= len(thief.train))
        if len(sizes) < 2:
            raise DataError(
                f"{len(thief.train)} images for an attacker make no learning curve", where=domain.name
            )
        grid = Grid(sizes=sizes, seeds=self.seeds)
        run = config.run()
        build = untrained(shipped) if recipe.model is None else partial(_built, recipe.model)
        starts: dict[str, Start] = {
            "scratch": scratch(build, spec, classes),
            "unprotected": released(original, Attacker(), spec, classes),
        }
        pruned = any(bool((weight == 0).any()) for weight in maskable_weights(shipped).values())
        attackers = {
            name: released(shipped, attacker, spec, classes)
            for name, attacker in ATTACKERS.items()
            if pruned or attacker.zeros == "regrow"
        }
        curves: dict[str, LearningCurve] = {}

        def curve(name: str, start: Start, budget: Budget) -> LearningCurve:
            found = curves[_key(name, budget.name)] = learning_curve(
                name, start, thief, spec, budget, grid, run
            )
            return found

        equal, swept = BUDGETS["equal"], BUDGETS["swept"]
        base = {name: curve(name, start, equal) for name, start in starts.items()}
        areas = [
            slc_auc(curve(name, start, equal), base[self.reference]) for name, start in attackers.items()
        ]
        worst = max(areas, key=lambda area: area.value).attacker
        tuned = curve(self.reference, starts[self.reference], swept)
        areas.append(slc_auc(curve(worst, attackers[worst], swept), tuned))
        dense = None if self.reference == "unprotected" else slc_auc(base["unprotected"], base["scratch"])
        return Learned(domain.name, curves, tuple(sorted(areas, key=lambda area: -area.value)), dense)


def _built(architecture: ModelSpec, seed: int) -> nn.Module:
    return architecture.build(load_weights=False, seed=seed)


def _key(name: str, budget: str) -> str:
    return f"{name}, {budget}"
