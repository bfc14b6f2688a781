"""Noise on the weights, and a shift of each filter towards zero mean."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import nn

from freehold.attacks.base import Attack, Taken
from freehold.attacks.fine_tune import FineTune
from freehold.data.domain import Domain, InputSpec
from freehold.models.anatomy import maskable_weights
from freehold.plugin import Card
from freehold.seeds import generator
from freehold.training import Trainer


class Perturb(Attack):
    """Adds noise in proportion to each layer's weights, shifts them, and trains the damage away."""

    name = "perturb"
    card: ClassVar[Card] = Card(
        title="Weight shifting and noise",
        paper="SoK: How Robust is Image Classification Deep Neural Network Watermarking?",
        venue="IEEE S&P 2022",
        goal="Move every weight a little, then repair the task by fine-tuning.",
        changed=(
            "noise relative to each layer's standard deviation; the shift is by the mean of each filter",
        ),
        undisclosed=("defaults are the reference code's; the learning rate of the repair is ours",),
        needs=("weights; labelled images only if epochs is above 0",),
        breaks=("noise that the task does not bear",),
    )
    stronger: ClassVar[dict[str, Any]] = {"shift": 2.5, "epochs": 20.0}

    noise: float = Field(1.0, ge=0, le=10, description="deviation, as a share of the layer's own")
    shift: float = Field(1.5, ge=0, le=10, description="times each filter's mean that is taken off it")
    epochs: float = Field(10.0, ge=0, le=1000, description="of fine-tuning all layers afterwards")

    def _run(self, model: nn.Module, domain: Domain, spec: InputSpec, trainer: Trainer) -> Taken:
        with torch.no_grad():
            for name, weight in maskable_weights(model).items():
                draws = torch.randn(weight.shape, generator=generator(trainer.run.seed, "perturb", name))
                mean = weight.flatten(1).mean(1).view(-1, *(1,) * (weight.ndim - 1))
                weight.add_(draws.to(weight) * weight.std() * self.noise - self.shift * mean)
        if not self.epochs:
            return Taken(model)
        return FineTune(epochs=self.epochs)._run(model, domain, spec, trainer)
