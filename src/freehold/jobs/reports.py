"""What the jobs give back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freehold.jobs.learning import Learned
from freehold.metrics.accuracy import Accuracy
from freehold.metrics.claims import ClaimResult, Verdict, worst
from freehold.metrics.transfer import Evaluation


@dataclass(frozen=True)
class TrainReport:
    """A trained source model.

    Attributes:
        directory: the run, ready to be named as ``model.weights``.
        accuracies: on the test images of each domain, the authorized one first.
        already: it had been finished before; nothing was computed.
    """

    directory: Path
    accuracies: dict[str, Accuracy]
    already: bool = False

    def to_json(self) -> dict[str, Any]:
        """As JSON-able data."""
        shown = {name: accuracy.model_dump() for name, accuracy in self.accuracies.items()}
        return {"directory": str(self.directory), "already_finished": self.already, "accuracies": shown}


@dataclass(frozen=True)
class MeasuredReport:
    """A protected run and what was measured about it.

    Attributes:
        directory: the run; the original weights are not in it.
        evaluation: both models on the test images of every domain.
        summary: three sentences in plain words.
        claims: each claim made against its measurement.
        page: the page about this measurement, if one was written.
        already: it had been finished before; nothing was computed.
        learned: learning curves by unauthorized domain, if they were asked for.
    """

    directory: Path
    evaluation: Evaluation
    summary: tuple[str, ...]
    claims: tuple[ClaimResult, ...]
    page: Path | None
    already: bool = False
    learned: tuple[Learned, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Of all claims together; holds if none was made."""
        return worst(list(self.claims))

    def to_json(self) -> dict[str, Any]:
        """As JSON-able data; figures of claims in points."""
        claims = [
            {
                "claim": c.text,
                "measured": c.measured,
                "interval": list(c.interval),
                "verdict": c.verdict.name.lower(),
            }
            for c in self.claims
        ]
        return {
            "directory": str(self.directory),
            "page": str(self.page) if self.page else None,
            "already_finished": self.already,
            "summary": list(self.summary),
            "evaluation": self.evaluation.to_json(),
            "claims": claims,
            "verdict": self.verdict.name.lower(),
            "learning": [found.to_json() for found in self.learned],
        }
