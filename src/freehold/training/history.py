"""What goes into a fit and what comes out, apart from the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from freehold.data.batches import Batch


class Validation(NamedTuple):
    """A score, higher is better, and the figures it was made of."""

    score: float
    figures: dict[str, float]


class Stream(Protocol):
    """Where a fit's batches come from: :class:`~freehold.data.batches.Batches`, or anything like it."""

    def batch(self, step: int) -> Batch:
        """This process's part of the batch of ``step``; a pure function, so that resuming needs no state."""


class Objective(Protocol):
    """One step's loss terms; ``"loss"`` is minimised, the others are only recorded."""

    def __call__(self, forward: nn.Module, batches: Mapping[str, Batch], step: int) -> Mapping[str, Tensor]:
        """Scalar terms from one ``forward`` of the model on this step's batches."""


@dataclass
class History:
    """What happened during a fit, as plain numbers.

    Attributes:
        steps: right ends of the windows that ``terms`` are means of.
        terms: one series a loss term.
        validation: one entry a validation: step, score and figures.
        best_step: step whose state was kept, when there was validation.
        images: images that passed through the model.
        seconds: wall time, summed over interruptions.
    """

    steps: list[int] = field(default_factory=list)
    terms: dict[str, list[float]] = field(default_factory=dict)
    validation: list[dict[str, float]] = field(default_factory=list)
    best_step: int = 0
    stopped_early: bool = False
    images: int = 0
    seconds: float = 0.0
    threads: int = 0

    def to_json(self) -> dict[str, Any]:
        """As JSON-able data."""
        return asdict(self)
