"""Channels that can be taken out of a network whole: found by dry runs, scored, cut out, put back as zeros.

A *unit* is a layer whose output channels are read by exactly one other layer, channel for channel:
every convolution of a plain network, the inner ones of residual blocks, the hidden layer of a
transformer's MLP. Nothing here knows class names of networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from freehold.errors import ModelError
from freehold.models.probe import BatchNorm, Probe, in_channels, out_channels

Live = Mapping[str, Tensor]  # layer of a unit -> bool (C,), true where the channel lives


@dataclass(frozen=True)
class Unit:
    """Output channels of ``layer`` that only ``reader`` reads.

    Attributes:
        layer: convolution or linear layer that makes the channels.
        norm: batch norm over its output, if there is one.
        reader: the one convolution or linear layer that they go into.
        channels: how many.
    """

    layer: str
    norm: str | None
    reader: str
    channels: int


def channel_units(model: nn.Module, example: Tensor) -> tuple[Unit, ...]:
    """The units of ``model``, in the order of their layers.

    The norm of a layer is the batch norm whose input is that layer's output tensor itself. The reader
    is the only layer whose whole input vanishes when the unit's output is replaced by zeros; that
    nothing else depends on the unit, and that channel i of the unit is channel i of the reader, is
    checked by two more runs.

    Args:
        model: any classifier; not changed.
        example: ``(B, C, H, W)``; only its shape is used, the runs see noise.

    Raises:
        ModelError: the model cannot process such images.
    """
    noise = torch.randn(example.shape, generator=torch.Generator().manual_seed(0))
    layers = {n: m for n, m in model.named_modules() if out_channels(m) is not None}
    plain = Probe(model, layers, noise)
    units = []
    for name, layer in layers.items():
        if plain.calls.get(name) != 1:  # a layer that is called twice makes two sets of channels
            continue
        norm = plain.norms.get(name)
        found = Probe(model, layers, noise, cut=norm or name, mask=torch.tensor(False))
        readers = [n for n in found.blank if n not in plain.blank]
        if len(readers) != 1 or plain.calls[readers[0]] != 1:
            continue
        reader, channels = readers[0], out_channels(layer) or 0
        if in_channels(layers[reader]) == channels and _exclusive(
            model, layers, noise, norm or name, reader, channels, plain
        ):
            units.append(Unit(name, norm, reader, channels))
    return tuple(units)


def normed_layers(model: nn.Module, example: Tensor) -> dict[str, str]:
    """Layer to the batch norm whose input is that layer's output, for layers that are called once."""
    layers = {n: m for n, m in model.named_modules() if out_channels(m) is not None}
    plain = Probe(model, layers, torch.randn(example.shape, generator=torch.Generator().manual_seed(0)))
    return {layer: norm for layer, norm in plain.norms.items() if plain.calls[layer] == 1}


def saliency(model: nn.Module, unit: Unit, weights: Mapping[str, Tensor] | None = None) -> Tensor:
    """``(C,)``: norm of the weights into each channel times that of the weights out of it.

    Args:
        model: holds the unit.
        unit: of ``model``.
        weights: by parameter name, in the place of the model's own.
    """
    into, out = (
        (weights or {}).get(name, model.get_parameter(name)).detach()
        for name in (f"{unit.layer}.weight", f"{unit.reader}.weight")
    )
    score: Tensor = into.flatten(1).norm(dim=1) * out.transpose(0, 1).flatten(1).norm(dim=1)
    return score


def channel_masks(model: nn.Module, units: Sequence[Unit], live: Live) -> dict[str, Tensor]:
    """The weight masks that follow: a weight lives if its output and its input channel do."""
    masks: dict[str, Tensor] = {}

    def mask(layer: str) -> Tensor:
        name = f"{layer}.weight"
        if name not in masks:
            masks[name] = torch.ones_like(model.get_parameter(name), dtype=torch.bool)
        return masks[name]

    for unit in units:
        mask(unit.layer)[~live[unit.layer]] = False
        mask(unit.reader)[:, ~live[unit.layer]] = False
    return masks


def equal_width(
    model: nn.Module, units: Sequence[Unit], names: Sequence[str], sparsity: float, floor: int
) -> int:
    """The largest width w for which units of ``min(C, w)`` channels leave at most ``1 - sparsity``.

    Args:
        model: holds the units.
        units: of ``model``.
        names: the weights that the share counts, by parameter name.
        sparsity: share of them that becomes zero, at least.
        floor: no unit becomes narrower.

    Raises:
        ModelError: not even ``floor`` channels a unit are sparse enough.
    """
    sizes = {name: model.get_parameter(name).numel() for name in names}
    total = sum(sizes.values())

    def zeros(width: int) -> float:
        out = {u.layer: min(1.0, width / u.channels) for u in units}
        into = {u.reader: min(1.0, width / u.channels) for u in units}
        layers = {name: name.rpartition(".")[0] for name in names}
        return (
            1 - sum(n * out.get(layers[k], 1.0) * into.get(layers[k], 1.0) for k, n in sizes.items()) / total
        )

    widths = range(floor, max((u.channels for u in units), default=0))
    fitting = [width for width in widths if zeros(width) >= sparsity]
    if not fitting:
        most = zeros(floor) if units else 0.0
        raise ModelError(
            f"whole channels can make at most {math.floor(1000 * most) / 1000:g} of the weights zero, "
            f"{floor} channels a layer being the least",
            where="sparsity",
            fix="ask for less, or prune single weights",
        )
    return fitting[-1]


def shrink(model: nn.Module, units: Sequence[Unit], live: Live) -> None:
    """Cut the dead channels out: layers, norms and readers become narrow, in place."""
    for unit in units:
        rows = live[unit.layer].nonzero().flatten().to(next(model.parameters()).device)

        def cut(tensor: Tensor, axis: int, rows: Tensor = rows) -> Tensor:
            return tensor.index_select(axis, rows)

        _reshape(model, unit, cut)


def widen(model: nn.Module, units: Sequence[Unit], live: Live) -> None:
    """Undo :func:`shrink`: the original widths, with zeros where channels were cut out.

    A dead channel has zero weights in and out and a norm with scale and shift 0. Behind a ReLU its
    output is 0 and so is every gradient that reaches it: training cannot bring it back.
    """
    for unit in units:
        alive = live[unit.layer].to(next(model.parameters()).device)

        def scatter(tensor: Tensor, axis: int, alive: Tensor = alive) -> Tensor:
            shape = list(tensor.shape)
            shape[axis] = len(alive)
            return tensor.new_zeros(shape).index_copy(axis, alive.nonzero().flatten(), tensor)

        _reshape(model, unit, scatter)
        norm = unit.norm and model.get_submodule(unit.norm)
        if isinstance(norm, BatchNorm) and norm.running_var is not None:
            norm.running_var[~alive] = 1.0


def _reshape(model: nn.Module, unit: Unit, change: Callable[[Tensor, int], Tensor]) -> None:
    """Apply ``change(tensor, axis)`` to every tensor that has the unit's channels as an axis."""
    layer, reader = model.get_submodule(unit.layer), model.get_submodule(unit.reader)
    norm = model.get_submodule(unit.norm) if unit.norm else None
    for module, axis in [(layer, 0), (norm, 0), (reader, 1)]:
        own = {} if module is None else {**module._parameters, **module._buffers}
        for name, tensor in own.items():
            if module is None or tensor is None or tensor.dim() <= axis:
                continue  # a reader's bias, a norm's counter of batches
            changed = change(tensor.detach(), axis)
            if isinstance(tensor, nn.Parameter):
                changed = nn.Parameter(changed, tensor.requires_grad)
            setattr(module, name, changed)
        if module is not None:
            _rename_widths(module, axis)


def _rename_widths(module: Any, axis: int) -> None:
    width = module.weight.shape[axis] if module.weight is not None else len(module.running_mean)
    kind = ("out", "in")[axis]
    for attribute in (f"{kind}_channels", f"{kind}_features", "num_features"):
        if hasattr(module, attribute):
            setattr(module, attribute, width)


def _exclusive(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    noise: Tensor,
    cut: str,
    reader: str,
    channels: int,
    plain: Probe,
) -> bool:
    """Whether the unit acts through ``reader`` alone, channel for channel."""
    mask = torch.rand(channels, generator=torch.Generator().manual_seed(1)) < 0.5
    seen = Probe(model, layers, noise, cut=cut, mask=mask, answers={reader: plain.outputs[reader]})
    axis = -1 if isinstance(layers[reader], nn.Linear) else 1
    shape = [1] * plain.inputs[reader].dim()
    shape[axis] = channels
    expected = plain.inputs[reader] * mask.view(shape).to(plain.inputs[reader].device)
    return torch.equal(seen.inputs[reader], expected) and torch.allclose(seen.logits, plain.logits)
