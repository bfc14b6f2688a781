"""Scales that a norm layer takes out again: the stiffness lock, and the attack that undoes it.

Where a batch norm follows a layer, the scale of the layer's weights is of no consequence to the output,
but decides how far a step of a given size turns them. :func:`stiffen` makes weights so large that a
fine-tuner's steps are lost on them. It protects nothing against somebody who looks: :func:`unstiffen`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from freehold.models.anatomy import dry_run
from freehold.models.channels import channel_units, normed_layers

FACTOR = 2.0**14  # a power of two: weights keep their bits
CLOSE = 1e-2  # of the logits' spread; what epsilon and rounding may change


@torch.no_grad()
def stiffen(model: nn.Module, example: Tensor, factor: float = FACTOR) -> tuple[str, ...]:
    """Multiply layers in front of a batch norm, in place, without changing what the model computes.

    Weights and bias become ``factor`` times as large and the norm's running statistics follow; only the
    norm's epsilon tells the difference. Norms whose channels go through a ReLU or a pooling into just
    one such layer are multiplied likewise. Activations grow with the factor: float16 cannot hold them.

    Args:
        model: changed in place.
        example: ``(B, C, H, W)`` images, for finding which norm follows which layer.
        factor: a power of two changes no bit of a weight but its exponent.

    Returns:
        What was multiplied, layers and norms; nothing in a network without batch norm.
    """
    followed = normed_layers(model, example)
    noise = torch.randn(example.shape, generator=torch.Generator().manual_seed(0))
    done = []
    for layer, norm in followed.items():
        _scale(model.get_submodule(layer), factor)
        _follow(model.get_submodule(norm), factor)
        done.append(layer)
    for norm, layer in _norms_in_between(model, example, followed):
        before = dry_run(model, noise)
        _scale_through(model, norm, layer, followed[layer], factor)
        if (dry_run(model, noise) - before).abs().max() > CLOSE * before.std():
            _scale_through(model, norm, layer, followed[layer], 1 / factor)  # no ReLU lies in between
        else:
            done.append(norm)
    return tuple(done)


@torch.no_grad()
def unstiffen(model: nn.Module, example: Tensor) -> tuple[str, ...]:
    """The attack: bring live weights and norms back to the scale of new ones.

    The root mean square of a layer's weights that are not zero becomes ``sqrt(2 / live inputs)`` (He et
    al. 2015), the mean size of a norm's live scales 1. Statistics follow, so that the model computes
    what it did wherever :func:`stiffen` could have acted.

    Returns:
        The layers and norms that were rescaled.
    """
    followed = normed_layers(model, example)
    done = []
    for norm, layer in _norms_in_between(model, example, followed):
        scale = model.get_submodule(norm).weight
        if isinstance(scale, Tensor) and scale.any():
            _scale_through(model, norm, layer, followed[layer], float(1 / scale[scale != 0].abs().mean()))
            done.append(norm)
    for layer, norm in followed.items():
        weight = model.get_submodule(layer).weight
        if isinstance(weight, Tensor) and weight.any():
            factor = float((2 * weight.shape[0] / weight.square().sum()).sqrt())
            _scale(model.get_submodule(layer), factor)
            _follow(model.get_submodule(norm), factor)
            done.append(layer)
    return tuple(done)


@torch.no_grad()
def lift_filters(model: nn.Module, layer: str, norm: str) -> None:
    """Bring a layer's small filters to half the median length, in place; its batch norm takes it out again.

    Nothing changes for a model in evaluation mode. Filters that training let shrink away can then hold
    something, and go no sooner than others when small weights are pruned.

    Args:
        model: changed in place.
        layer: its name; weights ``(O, ...)``.
        norm: name of the norm that follows it; anything but a batch norm with statistics is left alone.
    """
    after, before = model.get_submodule(norm), model.get_submodule(layer)
    mean, var, scale = after._buffers.get("running_mean"), after._buffers.get("running_var"), after.weight
    if mean is None or var is None or not isinstance(scale, Tensor):
        return
    weight, bias = before.get_parameter("weight"), before.bias
    sizes = weight.flatten(1).norm(dim=1)
    factor = (sizes.median() / 2 / sizes.clamp_min(1e-12)).clamp(1, 1e6)
    weight.mul_(factor.view(-1, *[1] * (weight.dim() - 1)))
    if isinstance(bias, Tensor):
        bias.mul_(factor)
    # The norm's epsilon is not scaled: its scale makes up for it.
    epsilon = float(after.eps)  # type: ignore[arg-type]
    scale.mul_(((factor**2 * var + epsilon) / (var + epsilon)).sqrt() / factor)
    mean.mul_(factor)
    var.mul_(factor**2)


def _norms_in_between(model: nn.Module, example: Tensor, followed: dict[str, str]) -> list[tuple[str, str]]:
    """Norms and the one layer each goes into, where another norm follows that layer."""
    units = channel_units(model, example)
    return [(u.norm, u.reader) for u in units if u.norm is not None and u.reader in followed]


def _scale_through(model: nn.Module, norm: str, layer: str, following: str, factor: float) -> None:
    """Multiply a norm; the layer behind it passes the factor on to the norm after that."""
    _scale(model.get_submodule(norm), factor)
    bias = model.get_submodule(layer).bias
    if isinstance(bias, Tensor):
        bias.mul_(factor)
    _follow(model.get_submodule(following), factor)


def _scale(module: nn.Module, factor: float) -> None:
    for parameter in module.parameters(recurse=False):
        parameter.mul_(factor)


def _follow(norm: nn.Module, factor: float) -> None:
    mean, var = norm.running_mean, norm.running_var
    if isinstance(mean, Tensor) and isinstance(var, Tensor):
        mean.mul_(factor)
        var.mul_(factor**2)
