"""Where and how a computation runs: everything that is not a hyper-parameter of a method."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt

from freehold.settings import Settings


class Execution(Settings):
    """The machine side of a run. None of it changes what is computed beyond rounding."""

    device: str = Field(
        "auto", description="auto, cpu, cuda, cuda:1, mps", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$"
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="mixed precision of the forward pass"
    )
    channels_last: bool = Field(True, description="memory layout of images and convolutions")
    compile: bool = Field(False, description="torch.compile the training forward pass")
    threads: Literal["auto"] | PositiveInt = Field(
        "auto", description="CPU threads; auto times a few real steps"
    )
    checkpoint_seconds: float = Field(
        20.0, ge=0, description="time between resumable states", json_schema_extra={"unit": "s"}
    )
    trackers: tuple[str, ...] = Field((), description="accelerate trackers, e.g. tensorboard")


class Run(Execution):
    """One computation: execution settings, a seed, and where its resumable state is kept.

    Attributes:
        seed: root of the seed tree.
        directory: folder for resumable state and tracker logs; without one nothing is kept on disk
            and an interrupted run starts again from the beginning.
        progress: show progress on the terminal.
    """

    seed: int = Field(0, ge=0)
    directory: Path | None = None
    progress: bool = True
