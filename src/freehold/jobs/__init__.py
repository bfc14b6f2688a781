"""The jobs of the command line, callable from Python: train, protect, evaluate, watermark, verify.

Imported when they are used, so that checking a claim does not wait for what training needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from freehold.jobs.marking import MarkedReport, watermark
    from freehold.jobs.protecting import protect
    from freehold.jobs.remeasuring import evaluate
    from freehold.jobs.reports import MeasuredReport, TrainReport
    from freehold.jobs.source import train
    from freehold.jobs.verifying import VerifyReport, verify

_HOME = {
    "MarkedReport": "marking",
    "MeasuredReport": "reports",
    "TrainReport": "reports",
    "VerifyReport": "verifying",
    "evaluate": "remeasuring",
    "protect": "protecting",
    "train": "source",
    "verify": "verifying",
    "watermark": "marking",
}

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


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'freehold.jobs' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"freehold.jobs.{_HOME[name]}"), name)
    return value
