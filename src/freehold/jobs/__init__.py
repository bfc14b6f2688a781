"""The jobs of the command line, callable from Python: train, protect, evaluate, watermark, verify."""

from __future__ import annotations

from freehold.jobs.marking import MarkedReport, watermark
from freehold.jobs.protecting import protect
from freehold.jobs.remeasuring import evaluate
from freehold.jobs.reports import MeasuredReport, TrainReport
from freehold.jobs.source import train
from freehold.jobs.verifying import VerifyReport, verify

__all__ = [
    "MarkedReport",
    "MeasuredReport",
    "TrainReport",
    "VerifyReport",
    "evaluate",
    "protect",
    "train",
    "verify",
    "watermark",
]
