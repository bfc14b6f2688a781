"""The only place that turns counts and curves into probabilities, bounds and areas."""

from __future__ import annotations

from freehold.statistics.intervals import (
    Interval,
    clopper_pearson,
    log_area,
    mean_interval,
    paired_difference,
)
from freehold.statistics.sequential import Wealth
from freehold.statistics.tails import (
    agreement_tail,
    binomial_masses,
    binomial_tail,
    detection,
    holm,
    matches_needed,
    trials_needed,
)

__all__ = [
    "Interval",
    "Wealth",
    "agreement_tail",
    "binomial_masses",
    "binomial_tail",
    "clopper_pearson",
    "detection",
    "holm",
    "log_area",
    "matches_needed",
    "mean_interval",
    "paired_difference",
    "trials_needed",
]
