"""SLC-AUC: what a released model is worth to somebody who fine-tunes it, over how many samples they have.

The sample-wise learning curve is the test accuracy after fine-tuning on ``n`` labelled images of the
unauthorized domain, and its area is taken over ``ln n`` (Ding et al., NTP, ECCV 2024).
"""

from __future__ import annotations

import itertools
import math
from typing import Self

from pydantic import Field, model_validator

from freehold.errors import DataError
from freehold.settings import Settings
from freehold.statistics import log_area, mean_interval


class LearningCurve(Settings):
    """Accuracies of one attacker, one row a seed.

    Attributes:
        attacker: what was fine-tuned, and how it was prepared.
        budget: name of the fine-tuning recipe; only curves of one recipe may be compared.
        sizes: labelled images ``n``, strictly ascending, at least two.
        accuracies: test accuracy in ``[0, 1]``, ``(seeds, sizes)``.
    """

    attacker: str
    budget: str
    sizes: tuple[int, ...] = Field(min_length=2)
    accuracies: tuple[tuple[float, ...], ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_sizes(self.sizes)
        for row in self.accuracies:
            if len(row) != len(self.sizes):
                raise ValueError(f"{len(row)} accuracies for {len(self.sizes)} sizes")
            if not all(0 <= value <= 1 for value in row):
                raise ValueError("an accuracy is no share in [0, 1]")
        return self

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean accuracy over the seeds, one a size."""
        return tuple(math.fsum(column) / len(column) for column in zip(*self.accuracies, strict=True))

    def restricted(self, sizes: tuple[int, ...]) -> LearningCurve:
        """The same curve at those of its sizes that are in ``sizes``."""
        kept = [i for i, n in enumerate(self.sizes) if n in set(sizes)]
        rows = tuple(tuple(row[i] for i in kept) for row in self.accuracies)
        return LearningCurve(
            attacker=self.attacker,
            budget=self.budget,
            sizes=tuple(self.sizes[i] for i in kept),
            accuracies=rows,
        )


class SLC(Settings):
    """SLC-AUC of one attacker against a reference.

    Attributes:
        attacker: whose curve it is.
        reference: what it was compared with.
        budget: the fine-tuning recipe both had.
        value: mean over seeds of the area between the curves, in nats; above 0 the released model
            helps the attacker, below 0 starting from the reference would have been better.
        normalised: ``value / ln(n_K / n_1)``, the mean accuracy gap, in ``[-1, 1]``.
        low: lower end of Student's 95 % interval of ``value`` over seeds, None for one seed.
        high: upper end.
        per_seed: the areas that ``value`` is the mean of.
        sizes: smallest and largest number of labelled images.
    """

    attacker: str
    reference: str
    budget: str
    value: float
    normalised: float
    low: float | None
    high: float | None
    per_seed: tuple[float, ...]
    sizes: tuple[int, int]

    def __str__(self) -> str:
        bounds = "" if self.low is None or self.high is None else f" [{self.low:+.3f}, {self.high:+.3f}]"
        against = f"against {self.reference}, budget {self.budget}"
        return f"{self.attacker}: SLC-AUC {self.value:+.3f}{bounds} nats {against}"


def slc_auc(curve: LearningCurve, reference: LearningCurve, *, common: bool = False) -> SLC:
    """Area between two learning curves over ``ln n``, seed by seed.

    Args:
        curve: of the attacker who has the released model.
        reference: of the same attacker without it: from scratch, or another model by choice.
        common: compare at the sizes that both have; otherwise differing sizes are refused, since a
            missing decade would count as a gain.

    Raises:
        DataError: other sizes, another budget, or another number of seeds.
    """
    if common:
        shared = tuple(n for n in curve.sizes if n in set(reference.sizes))
        if len(shared) < 2:
            raise DataError(
                "the curves share fewer than two sizes", where="SLC-AUC", fix="measure both on one grid"
            )
        curve, reference = curve.restricted(shared), reference.restricted(shared)
    for what, mine, theirs in (
        ("sizes", curve.sizes, reference.sizes),
        ("budget", curve.budget, reference.budget),
        ("number of seeds", len(curve.accuracies), len(reference.accuracies)),
    ):
        if mine != theirs:
            raise DataError(
                f"{what} {mine} against {theirs}", where="SLC-AUC", fix="measure both curves the same way"
            )
    per_seed = [
        log_area(curve.sizes, [a - b for a, b in zip(mine, theirs, strict=True)])
        for mine, theirs in zip(curve.accuracies, reference.accuracies, strict=True)
    ]
    value, interval = mean_interval(per_seed)
    several = len(per_seed) > 1
    return SLC(
        attacker=curve.attacker,
        reference=reference.attacker,
        budget=curve.budget,
        value=value,
        normalised=value / math.log(curve.sizes[-1] / curve.sizes[0]),
        low=interval.low if several else None,
        high=interval.high if several else None,
        per_seed=tuple(per_seed),
        sizes=(curve.sizes[0], curve.sizes[-1]),
    )


def check_sizes(sizes: tuple[int, ...]) -> None:
    """See that a grid can carry a curve.

    Raises:
        ValueError: fewer than two sizes, one below 2, or not strictly ascending.
    """
    if len(sizes) < 2 or min(sizes) < 2 or any(a >= b for a, b in itertools.pairwise(sizes)):
        raise ValueError(f"sizes {list(sizes)}: give at least two, strictly ascending, from 2 images up")
