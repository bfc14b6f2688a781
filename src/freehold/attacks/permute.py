"""Rewriting a network so that it computes the same from other numbers."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from freehold.attacks.base import Attack, Taken
from freehold.data.domain import Domain, InputSpec
from freehold.models.anatomy import dry_run
from freehold.models.channels import Unit, channel_units, normed_layers
from freehold.plugin import Card
from freehold.seeds import generator
from freehold.training import Trainer

CLOSE = 1e-3  # of the logits' spread: what rounding may change


class Permute(Attack):
    """Permutes channels, flips signs and scales of filters: the outputs stay, the weights do not."""

    name = "permute"
    card: ClassVar[Card] = Card(
        title="Function-preserving transforms: neurons permuted, flipped and scaled",
        paper="Cracking White-box DNN Watermarks via Invariant Neuron Transforms",
        venue="KDD 2023",
        identifier="arXiv:2205.00199",
        goal="Move a white-box watermark out of the place where its owner looks for it, at no cost at all.",
        changed=(
            "channels that exactly one other layer reads, found by dry runs; those of a residual stream stay",
            "a transform that would change the answers is taken back",
        ),
        needs=("weights; no data",),
        breaks=("a reading that first aligns channels to a reference",),
    )
    stronger: ClassVar[dict[str, float]] = {"scale": 2.0}

    permute: bool = Field(True, description="channels change places")
    flip: bool = Field(True, description="half of the filters before a batch norm change sign")
    scale: float = Field(
        1.0, ge=0, le=5, description="channels are multiplied by e to this power times a standard normal"
    )

    @torch.no_grad()
    def _run(self, model: nn.Module, domain: Domain, spec: InputSpec, trainer: Trainer) -> Taken:
        example, seed = spec.example(), trainer.run.seed
        units = channel_units(model, example)
        for layer, norm in normed_layers(model, example).items():
            width = len(model.get_parameter(f"{layer}.weight"))
            stream = generator(seed, "filters", layer)
            factors = (self.scale * torch.randn(width, generator=stream)).exp()
            if self.flip:
                factors *= 2 * torch.randint(2, (width,), generator=stream) - 1
            _scale_filters(model, layer, norm, factors)
        for unit in units:
            stream = generator(seed, "channels", unit.layer)
            factors = (self.scale * torch.randn(unit.channels, generator=stream)).exp()
            order = torch.randperm(unit.channels, generator=stream)
            if self.scale:
                _scale_channels(model, unit, factors, example)
            if self.permute:
                _reorder(model, unit, order)
        return Taken(model)


def _scale_filters(model: nn.Module, layer: str, norm: str, factors: Tensor) -> None:
    """Multiply each filter; the batch norm behind it takes the factor, and its sign, out again."""
    before, after = model.get_submodule(layer), model.get_submodule(norm)
    for tensor in before.parameters(recurse=False):
        tensor.mul_(along(factors, tensor, 0))
    mean, variance, scale = after.running_mean, after.running_var, after.weight
    if isinstance(mean, Tensor) and isinstance(variance, Tensor):
        mean.mul_(factors.to(mean))
        variance.add_(float(after.eps)).mul_(factors.to(mean) ** 2).sub_(float(after.eps))  # type: ignore[arg-type]
    if isinstance(scale, Tensor):
        scale.mul_(factors.sign().to(scale))


def _scale_channels(model: nn.Module, unit: Unit, factors: Tensor, example: Tensor) -> None:
    """Multiply what a unit puts out, and divide what is read of it; taken back if no ReLU lies in between."""
    noise = torch.randn(example.shape, generator=torch.Generator().manual_seed(0))
    before = dry_run(model, noise)
    for power in (1, -1):
        source, reader = model.get_submodule(unit.norm or unit.layer), model.get_submodule(unit.reader)
        for tensor in source.parameters(recurse=False):
            tensor.mul_(along(factors**power, tensor, 0))
        weight: Tensor = reader.weight  # type: ignore[assignment]
        weight.div_(along(factors**power, weight, 1))
        if (dry_run(model, noise) - before).abs().max() <= CLOSE * before.std():
            return


def _reorder(model: nn.Module, unit: Unit, order: Tensor) -> None:
    for name, axis in ((unit.layer, 0), (unit.norm, 0), (unit.reader, 1)):
        module = model.get_submodule(name) if name else nn.Identity()
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if tensor.dim() > axis:  # not a reader's bias, nor a norm's counter of batches
                tensor.copy_(tensor.index_select(axis, order.to(tensor.device)))


def along(factors: Tensor, tensor: Tensor, axis: int) -> Tensor:
    """``factors`` shaped so that they multiply ``tensor`` along ``axis``."""
    return factors.to(tensor).view(*(1,) * axis, -1, *(1,) * (tensor.dim() - axis - 1))
