"""One training loop, and what surrounds it: settings, schedules, losses, resumable state."""

from __future__ import annotations

from freehold.training.history import History, Objective, Stream, Validation
from freehold.training.run import Execution, Run
from freehold.training.schedule import Loop
from freehold.training.trainer import Trainer

__all__ = ["Execution", "History", "Loop", "Objective", "Run", "Stream", "Trainer", "Validation"]
