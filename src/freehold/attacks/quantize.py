"""Quantization: weights on a coarse grid, as a thief who ships to small devices would have them."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from freehold.attacks.base import Attack, Taken
from freehold.data.domain import Domain, InputSpec
from freehold.models.anatomy import maskable_weights
from freehold.plugin import Card
from freehold.training import Trainer


class Quantize(Attack):
    """Rounds weights to a uniform symmetric grid; activations stay as they are."""

    name = "quantize"
    card: ClassVar[Card] = Card(
        title="Weight quantization",
        paper="SoK: How Robust is Image Classification Deep Neural Network Watermarking?",
        venue="IEEE S&P 2022",
        goal="Round the weights, in the hope that what the task does not need is rounded away.",
        changed=(
            "symmetric grid for each output channel, as integer runtimes use; simulated in floating point",
        ),
        undisclosed=("the publication quantizes to 5 or 6 bits for each tensor and fine-tunes an epoch",),
        needs=("weights, no data",),
        breaks=("below about 4 bits the task is lost as well",),
    )
    stronger: ClassVar[dict[str, Any]] = {"bits": 5}

    bits: int = Field(8, ge=2, le=16, description="of each weight", json_schema_extra={"unit": "bits"})

    def _run(self, model: nn.Module, domain: Domain, spec: InputSpec, trainer: Trainer) -> Taken:
        with torch.no_grad():
            for weight in maskable_weights(model).values():
                weight.copy_(rounded(weight, self.bits))
        return Taken(model)


def rounded(weight: Tensor, bits: int) -> Tensor:
    """``weight`` on the grid of ``2^bits - 1`` values, symmetric about zero, of each output channel."""
    top = 2 ** (bits - 1) - 1
    step = weight.abs().flatten(1).amax(1).clamp_min(torch.finfo(weight.dtype).tiny) / top
    step = step.view(-1, *(1,) * (weight.ndim - 1))
    nearest: Tensor = (weight / step).round() * step
    return nearest
