"""What a false claimant finds, and what he brings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from freehold.bench.stages import Base, Made
from freehold.data.domain import Split
from freehold.keys import Key
from freehold.metrics.accuracy import share_correct
from freehold.ownership.base import OwnershipMethod, method_of
from freehold.ownership.suspect import ModuleSuspect
from freehold.seeds import derive, generator
from freehold.training import Run

SHARE = 0.1  # of the training images that a forger has
TRIGGERS = 100


@dataclass(frozen=True)
class Scene:
    """What a forger finds."""

    given: Base
    made: Made
    key: Key
    seed: int
    others: Callable[[int], nn.Module]

    @property
    def suspect(self) -> ModuleSuspect:
        """The released model."""
        return ModuleSuspect(self.made.model, self.given.domains.input, name="the released model")

    @property
    def method(self) -> OwnershipMethod:
        """The owner's, with its settings."""
        return method_of(self.key)

    @property
    def run(self) -> Run:
        """The forger's randomness."""
        return self.given.run.model_copy(update={"seed": derive(self.seed, "attacker")})

    def accuracy(self, model: nn.Module) -> float:
        """On the authorized test images."""
        return share_correct(model, self.given.domains.all()[0].test, self.given.domains.input)

    def images(self) -> Split:
        """The training images that were stolen."""
        train = self.given.domains.all()[0].train
        rows = torch.randperm(len(train), generator=generator(self.seed, "stolen"))
        return train.take(rows[: max(TRIGGERS, round(SHARE * len(rows)))])


@dataclass(frozen=True)
class Forged:
    """A claim: how it fares as published (None: it answers our own reading only), and its key.

    Attributes:
        published: figures and ``accepted``.
        key: that is brought.
        model: that is claimed.
        early: the forger's commitment was published before the release.
        presented: the commitment that he calls his.
    """

    published: Mapping[str, Any] | None
    key: Key
    model: nn.Module
    early: bool = False
    presented: str | None = None
