"""Which norm layer follows which layer: found by watching one dry run, not by names of networks."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from freehold.models.anatomy import dry_run

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)  # instance norm is of the first kind


@dataclass(frozen=True)
class NormPair:
    """A norm layer and the convolution or linear layer whose output goes into it.

    Attributes:
        layer: dotted name of the convolution or linear layer.
        norm: of the norm layer; its scale and shift have one value a channel.
        channels: outputs of the layer.
        fan_in: weights into each of them.
    """

    layer: str
    norm: str
    channels: int
    fan_in: int


def norm_pairs(model: nn.Module, example: Tensor) -> tuple[NormPair, ...]:
    """The pairs of ``model``, in the order in which a forward pass calls them; found by a dry run.

    A norm belongs to a layer if it is given the layer's output itself, or another view of all of it, and has
    a scale and a shift a channel. Batch, group, layer and instance norm count, and what derives from them.
    Layers and norms that run more than once do not.

    Args:
        model: any classifier; not changed.
        example: ``(B, C, H, W)``.

    Raises:
        ModelError: the model cannot process such images.
    """
    made: list[tuple[str, nn.Module, Tensor]] = []
    met: list[tuple[str, nn.Module, Tensor]] = []

    def layer_ran(name: str, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        made.append((name, module, output))  # kept: memory that is free could be another tensor's soon

    def norm_runs(name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        met.append((name, module, args[0]))

    with ExitStack() as hooks:
        for name, module in model.named_modules():
            if _carries_weights(module):
                hooks.callback(module.register_forward_hook(partial(layer_ran, name)).remove)
            elif isinstance(module, NORMS):
                hooks.callback(module.register_forward_pre_hook(partial(norm_runs, name)).remove)
        dry_run(model, example)
    calls = Counter(name for name, *_ in (*made, *met))
    once = {name for name, count in calls.items() if count == 1}
    pairs = []
    for name, norm, given in met:
        for layer, module, output in made:
            weight: Tensor = module.weight  # type: ignore[assignment]
            if {name, layer} <= once and _same(output, given) and _affine(norm, len(weight)):
                pairs.append(NormPair(layer, name, len(weight), weight[0].numel()))
    return tuple(pairs)


def _carries_weights(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or (
        isinstance(module, nn.modules.conv._ConvNd) and not module.transposed
    )


def _same(output: Tensor, given: Tensor) -> bool:
    where, there = output.untyped_storage().data_ptr(), given.untyped_storage().data_ptr()
    return where == there and output.numel() == given.numel()


def _affine(norm: nn.Module, channels: int) -> bool:
    return all(
        isinstance(part, nn.Parameter) and part.shape == (channels,)
        for part in (getattr(norm, "weight", None), getattr(norm, "bias", None))
    )
