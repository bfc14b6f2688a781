"""Quantization: numbers on a coarse grid, as a thief who ships to small devices would have them."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from freehold.attacks.base import Attack, Taken, leaked
from freehold.data.domain import Domain, InputSpec
from freehold.metrics.accuracy import apply
from freehold.models.anatomy import maskable_weights
from freehold.plugin import Card
from freehold.training import Trainer

CALIBRATION = 256  # images that fix the ranges of static quantization


class Quantize(Attack):
    """Rounds weights to a uniform symmetric grid, and what goes into each layer to eight bits if asked."""

    name = "quantize"
    card: ClassVar[Card] = Card(
        title="Quantization: weights, int8 dynamic, int8 static",
        paper="SoK: How Robust is Image Classification Deep Neural Network Watermarking?",
        venue="IEEE S&P 2022",
        goal="Round the weights, in the hope that what the task does not need is rounded away.",
        changed=(
            "symmetric grid for each output channel, as integer runtimes use; simulated in floating point, "
            "so that any network and device will do: an integer runtime differs by the rounding of sums",
            "inputs of layers: 256 levels over each image's range (dynamic), or over the range that the "
            "attacker's images showed (static)",
        ),
        undisclosed=("the publication quantizes to 5 or 6 bits for each tensor and fine-tunes an epoch",),
        needs=("weights", "unlabelled images for static"),
        breaks=("below about 4 bits the task is lost as well",),
    )
    stronger: ClassVar[dict[str, Any]] = {"bits": 5, "activations": "static"}

    bits: int = Field(8, ge=2, le=16, description="of each weight", json_schema_extra={"unit": "bits"})
    activations: Literal["float", "dynamic", "static"] = Field(
        "float", description="what goes into each layer: as it is, or eight bits of its own or a fixed range"
    )

    def _run(self, model: nn.Module, domain: Domain, spec: InputSpec, trainer: Trainer) -> Taken:
        with torch.no_grad():
            for weight in maskable_weights(model).values():
                weight.copy_(rounded(weight, self.bits))
            if self.activations == "float":
                return Taken(model)
            roundings = _attached(model)
            if self.activations == "dynamic":
                return Taken(model)
            seen = leaked(domain.train, min(1.0, CALIBRATION / len(domain.train)), trainer.run.seed)
            for rounding in roundings:
                rounding.watching = True
            apply(model, seen, spec)
            for rounding in roundings:
                rounding.watching = False
        return Taken(model, images=len(seen))


class Rounding:
    """Rounds the input of a layer to 256 levels; a hook, so that the layer keeps its name and weights.

    Attributes:
        low: of the fixed range; None for each image's own.
        high: of the fixed range.
        watching: widen the range to all that passes, and round nothing.
    """

    def __init__(self) -> None:
        self.low: Tensor | None = None
        self.high: Tensor | None = None
        self.watching = False

    def __call__(self, layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The hook: ``args[0]`` is the layer's input, ``(B, ...)``."""
        seen: Tensor = args[0]
        if self.watching:
            low, high = seen.min(), seen.max()
            self.low = low if self.low is None else torch.minimum(low, self.low)
            self.high = high if self.high is None else torch.maximum(high, self.high)
            return args
        if self.low is None or self.high is None:
            low, high = (
                f(seen, dim=tuple(range(1, seen.dim())), keepdim=True) for f in (torch.amin, torch.amax)
            )
        else:
            low, high = self.low.to(seen), self.high.to(seen)
        low, high = low.clamp_max(0), high.clamp_min(0)  # zero is always a level, so that padding stays exact
        step = ((high - low) / 255).clamp_min(torch.finfo(seen.dtype).tiny)
        zero = (-low / step).round()
        levels = ((seen / step).round() + zero).clamp(0, 255)
        return ((levels - zero) * step, *args[1:])


def _attached(model: nn.Module) -> list[Rounding]:
    """A rounding before every convolution and linear layer."""
    layers = [m for m in model.modules() if isinstance(m, nn.modules.conv._ConvNd | nn.Linear)]
    roundings = [Rounding() for _ in layers]
    for layer, rounding in zip(layers, roundings, strict=True):
        layer.register_forward_pre_hook(rounding)
    return roundings


def rounded(weight: Tensor, bits: int) -> Tensor:
    """``weight`` on the grid of ``2^bits - 1`` values, symmetric about zero, of each output channel."""
    top = 2 ** (bits - 1) - 1
    step = weight.abs().flatten(1).amax(1).clamp_min(torch.finfo(weight.dtype).tiny) / top
    step = step.view(-1, *(1,) * (weight.ndim - 1))
    nearest: Tensor = (weight / step).round() * step
    return nearest
