"""Optimiser, schedule and stopping rule of a fit."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from freehold.settings import Settings


class Loop(Settings):
    """Optimiser, schedule and stopping rule of one fit."""

    steps: int = Field(ge=1)
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = Field(gt=0)
    weight_decay: float = Field(0.0, ge=0)
    schedule: Literal["constant", "cosine", "one-cycle", "exponential", "half-linear", "halving"] = Field(
        "constant",
        description="half-linear: constant for the first half, then a straight line down; "
        "halving: half as much after each sixth",
    )
    final: float = Field(
        0.0, ge=0, le=1, description="cosine, half-linear: last learning rate as a share of the first"
    )
    decay: float = Field(0.999, gt=0, le=1, description="exponential: factor a step")
    clip: float | None = Field(None, gt=0, description="largest gradient norm")
    evaluate_every: int = Field(0, ge=0, description="steps between validations; 0 validates only at the end")
    patience: int | None = Field(None, ge=1, description="validations without a better score before stopping")

    def factor(self, step: int) -> float:
        """Learning rate at ``step`` as a share of ``lr``."""
        done = step / self.steps
        if self.schedule == "cosine":
            return self.final + (1 - self.final) * (1 + math.cos(math.pi * done)) / 2
        if self.schedule == "half-linear":
            return 1 - (1 - self.final) * max(0.0, 2 * done - 1)
        if self.schedule == "halving":
            return float(0.5 ** int(6 * done))
        if self.schedule == "one-cycle":
            rising = (1 - math.cos(math.pi * done / 0.3)) / 2
            return 0.04 + 0.96 * rising if done < 0.3 else (1 + math.cos(math.pi * (done - 0.3) / 0.7)) / 2
        return self.decay**step if self.schedule == "exponential" else 1.0

    def build(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser over ``parameters``."""
        if self.optimizer == "sgd":
            return torch.optim.SGD(
                parameters, self.lr, momentum=0.9, weight_decay=self.weight_decay, fused=True
            )
        kind = torch.optim.AdamW if self.optimizer == "adamw" else torch.optim.Adam
        return kind(parameters, self.lr, weight_decay=self.weight_decay, fused=True)
