"""What every attack is: checks first, the algorithm on a copy, an account of cost and gain."""

from __future__ import annotations

import copy
import time
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self, final

from torch import nn

from freehold.data.domain import Domain, InputSpec
from freehold.errors import ModelError, ProblemsError
from freehold.metrics.accuracy import Accuracy, predict
from freehold.models.anatomy import dry_run
from freehold.models.weights import state_hash, unwrap
from freehold.plugin import Access, Plugin, Problem
from freehold.training import History, Run, Trainer


@dataclass
class Taken:
    """What an attack's algorithm gives back.

    Attributes:
        model: what the attacker would use: of several states the best on validation images.
        last: the state at the end, where that is another one.
        images: labelled or unlabelled images of the attacker that were used.
        queries: answers asked of the model; for attacks that only have black-box access.
        history: of the training, if there was any.
    """

    model: nn.Module
    last: nn.Module | None = None
    images: int = 0
    queries: int = 0
    history: History | None = None


@dataclass(frozen=True)
class Attacked:
    """A model after an attack.

    Attributes:
        model: of several states the best on the attacker's validation images; on the CPU.
        last: the state at the end of the attack; ``model`` itself where there is no other.
        record: JSON-able: attack, fields, seed, cost (images, queries, steps, seconds), hashes.
        before: accuracy of the attacked model on the test images of the attacker's domain.
        after: the same of ``model``.
    """

    model: nn.Module
    last: nn.Module
    record: dict[str, Any] = field(repr=False)
    before: Accuracy
    after: Accuracy


class Attack(Plugin):
    """Base of all attacks. The defaults of the fields are the published setting; no attack sees a key."""

    kind = "attack"
    access: ClassVar[Access] = Access.WEIGHTS
    prey: ClassVar[Literal["authorized", "unauthorized"]] = "authorized"  # whose images it is made for
    stronger: ClassVar[dict[str, Any]] = {}  # the fields in which the strong setting differs

    @classmethod
    def strong(cls) -> Self:
        """The strong setting: what somebody would do who wants the protection gone, at whatever cost."""
        return cls(**cls.stronger)

    def against(self, method: str) -> Self:
        """This attack by somebody who knows which registered method he is up against: most do the same."""
        return self

    @final
    def problems(self, model: nn.Module, domain: Domain, spec: InputSpec) -> list[Problem]:
        """Every reason why this cannot run, found without training; empty if it can."""
        try:
            classes = dry_run(model, spec.example()).shape[1]
        except ModelError as error:
            return [Problem(where="model", what=error.what, fix=error.fix)]
        if classes != domain.num_classes:
            what = f"gives {classes} logits and {domain.name} has {domain.num_classes} classes"
            return [Problem(where="model", what=what, fix="attack with a domain of the model's classes")]
        return list(self._problems(unwrap(model), domain, spec))

    def _problems(self, model: nn.Module, domain: Domain, spec: InputSpec) -> list[Problem]:
        """What only this attack cannot cope with."""
        return []

    @final
    def run(self, model: nn.Module, domain: Domain, spec: InputSpec, *, run: Run | None = None) -> Attacked:
        """Attack a copy of ``model``; the caller's model stays as it is.

        Args:
            model: classifier from images ``(B, C, H, W)`` to logits ``(B, K)``.
            domain: the attacker's images; K classes.
            spec: input of the model.
            run: device, precision, seed and place of resumable state.

        Raises:
            ProblemsError: with every reason at once, before any work.
            TrainingError: the attack's loss became NaN or infinite.
        """
        if problems := self.problems(model, domain, spec):
            raise ProblemsError(self.name, problems)
        run = run or Run()
        victim = copy.deepcopy(unwrap(model)).requires_grad_(True)
        attacked_hash = state_hash(victim)
        trainer = Trainer(run, f"{self.name} {self.model_dump_json()} {attacked_hash}")
        began = time.monotonic()
        taken = self._run(victim.to(trainer.device), domain, spec, trainer)
        seconds = time.monotonic() - began
        after = _accuracy(taken.model, domain, spec)
        states = [
            shown.eval().to("cpu").requires_grad_(True) for shown in (taken.model, taken.last or taken.model)
        ]
        record = {
            "attack": self.name,
            "fields": self.model_dump(mode="json"),
            "access": self.access.name.lower(),
            "seed": run.seed,
            "domain": domain.name,
            "cost": {
                "images": taken.images,
                "queries": taken.queries,
                "steps": taken.history.steps[-1] if taken.history and taken.history.steps else 0,
                "seconds": seconds,
            },
            "attacked_hash": attacked_hash,
            "result_hash": state_hash(states[0]),
            "history": taken.history.to_json() if taken.history else None,
        }
        return Attacked(states[0], states[1], record, _accuracy(model, domain, spec), after)

    @abstractmethod
    def _run(self, model: nn.Module, domain: Domain, spec: InputSpec, trainer: Trainer) -> Taken:
        """The algorithm. ``model`` is a copy on the trainer's device, free to change."""


def _accuracy(model: nn.Module, domain: Domain, spec: InputSpec) -> Accuracy:
    right = predict(model, domain.test, spec).cpu() == domain.test.labels
    return Accuracy.of(int(right.sum()), len(right))
