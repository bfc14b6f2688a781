"""The three jobs of the command line, callable from Python: train, protect, evaluate."""

from __future__ import annotations

from freehold.jobs.protecting import protect
from freehold.jobs.remeasuring import evaluate
from freehold.jobs.reports import MeasuredReport, TrainReport
from freehold.jobs.source import train

__all__ = ["MeasuredReport", "TrainReport", "evaluate", "protect", "train"]
