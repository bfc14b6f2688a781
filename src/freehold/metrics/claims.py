"""A stated bar, and whether the measured interval holds it, breaks it or cannot tell."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from pydantic import Field

from freehold.metrics.transfer import Evaluation
from freehold.settings import Settings
from freehold.statistics import Interval


class Verdict(Enum):
    """Outcome of a claim; the value is the command line's exit code."""

    HOLDS = 0
    BROKEN = 1
    INCONCLUSIVE = 2


class ClaimResult(NamedTuple):
    """One claim against its measurement; figures in points."""

    text: str
    measured: float
    interval: Interval
    verdict: Verdict


class Claims(Settings):
    """What the owner states about a protected model, in points."""

    max_source_drop: float | None = Field(None, ge=-100, le=100, json_schema_extra={"unit": "points"})
    max_target_accuracy: float | None = Field(None, ge=0, le=100, json_schema_extra={"unit": "%"})

    def check(self, evaluation: Evaluation) -> list[ClaimResult]:
        """Each stated bar against the 95 % interval; a claim holds only when all of it is below the bar."""
        results = []
        for domain in evaluation.domains:
            if domain.role == "authorized" and self.max_source_drop is not None:
                text = f"{domain.name}: loses at most {self.max_source_drop:g} points"
                interval = Interval(100 * domain.drop_low, 100 * domain.drop_high)
                results.append(_judge(text, 100 * domain.drop, interval, self.max_source_drop))
            if domain.role == "unauthorized" and self.max_target_accuracy is not None:
                text = f"{domain.name}: at most {self.max_target_accuracy:g} % right"
                interval = Interval(100 * domain.after.low, 100 * domain.after.high)
                results.append(_judge(text, 100 * domain.after.value, interval, self.max_target_accuracy))
        return results


def _judge(text: str, measured: float, interval: Interval, bar: float) -> ClaimResult:
    if interval.high <= bar:
        return ClaimResult(text, measured, interval, Verdict.HOLDS)
    return ClaimResult(
        text, measured, interval, Verdict.BROKEN if interval.low > bar else Verdict.INCONCLUSIVE
    )


def worst(results: list[ClaimResult]) -> Verdict:
    """One broken claim breaks the whole; otherwise one open claim leaves it open."""
    verdicts = {result.verdict for result in results}
    return next((v for v in (Verdict.BROKEN, Verdict.INCONCLUSIVE) if v in verdicts), Verdict.HOLDS)
