"""Binary masks on frozen weights: attached as parametrizations, learned by scores, fused into plain weights.

A mask lives only while it is learned. :func:`fuse_masks` leaves a plain architecture whose weights
are ``w * m`` bit for bit, and :func:`pack_masks` stores the mask itself at one bit a weight.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from freehold.errors import ArtifactError, ModelError, UsageError
from freehold.models.anatomy import closest


def apply_mask(weight: Tensor, mask: Tensor) -> Tensor:
    """``weight`` where ``mask`` is true and +0 elsewhere: the one definition of a masked weight."""
    return torch.where(mask, weight, 0.0)


class _StraightThrough(torch.autograd.Function):
    """Forward w·1[s > t]; backward hands the mask's gradient, dL/dw̃·w, to the scores unchanged."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, scores: Tensor, threshold: float) -> Tensor:
        ctx.save_for_backward(weight)
        return apply_mask(weight, scores > threshold)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None]:
        (weight,) = ctx.saved_tensors
        return None, (gradients[0] * weight).float(), None


class WeightMask(nn.Module):
    """The parametrization: one float32 score a weight, of which the mask is ``scores > threshold``."""

    def __init__(self, name: str, weight: Tensor, init: float, threshold: float) -> None:
        super().__init__()
        self.name = name
        self.threshold = threshold
        self.trainable = weight.requires_grad  # what fusing gives back
        self.scores = nn.Parameter(torch.full_like(weight, init, dtype=torch.float32))

    def forward(self, weight: Tensor) -> Tensor:
        """The masked weight, differentiable with respect to the scores."""
        masked: Tensor = _StraightThrough.apply(weight, self.scores, self.threshold)
        return masked

    @property
    def mask(self) -> Tensor:
        """Bool, shape of the weight: true where the weight is kept."""
        return self.scores.detach() > self.threshold


def attach_masks(
    model: nn.Module, names: Sequence[str], *, init: float = 0.01, threshold: float = 0.005
) -> dict[str, nn.Parameter]:
    """Freeze the named weights and put a learnable binary mask on each; the model is changed in place.

    The effective weight is ``w * 1[s > threshold]``, with the straight-through gradient
    ``dL/ds := dL/d(w*m) * w``. With ``init > threshold`` the masked model computes what it did before.
    A weight that several layers share gets one mask for all of them.

    Args:
        model: module whose weights are masked.
        names: parameter names as in ``model.named_parameters()``, e.g. ``"features.0.weight"``.
        init: first value of every score.
        threshold: scores above it keep their weight.

    Returns:
        Parameter name to scores, float32 of the weight's shape and memory layout.

    Raises:
        UsageError: a name is not a parameter of the model, or ``names`` is empty.
        ModelError: a named weight is parametrized already, or not a floating point tensor.
    """
    slots = _slots(model, names)
    scores: dict[str, nn.Parameter] = {}
    for name, owners in slots.items():
        weight = getattr(*owners[0])
        mask = WeightMask(name, weight, init, threshold)
        weight.requires_grad_(False)
        for module, attribute in owners:
            parametrize.register_parametrization(module, attribute, mask)
        scores[name] = mask.scores
    return scores


@contextmanager
def masked(
    model: nn.Module, names: Sequence[str], *, init: float = 0.01, threshold: float = 0.005
) -> Iterator[dict[str, nn.Parameter]]:
    """:func:`attach_masks` for the length of a block; call :func:`fuse_masks` inside to keep the result.

    Whatever happens in the block, no parametrization is left behind: masks that were not fused are
    taken off and the weights are the original ones again.
    """
    scores = attach_masks(model, names, init=init, threshold=threshold)
    try:
        yield scores
    finally:
        remove_masks(model)


def read_masks(model: nn.Module) -> dict[str, Tensor]:
    """The masks attached to ``model``: parameter name to bool tensor, true where the weight is kept."""
    return {mask.name: mask.mask for _, _, mask in _attached(model)}


def fuse_masks(model: nn.Module) -> None:
    """Replace each masked weight by ``w * m`` and take the masks off: a plain module, with its old keys."""
    _detach(model, fuse=True)


def remove_masks(model: nn.Module) -> None:
    """Take the masks off and leave the original weights; does nothing to a model without masks."""
    _detach(model, fuse=False)


def pack_masks(masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bool tensors of any shape to uint8 vectors of ``ceil(numel / 8)``, first weight in the highest bit."""
    return {k: torch.from_numpy(np.packbits(m.detach().cpu().numpy().reshape(-1))) for k, m in masks.items()}


def unpack_masks(packed: Mapping[str, Tensor], shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Inverse of :func:`pack_masks`.

    Raises:
        ArtifactError: a shape is missing or does not fit the number of stored bits.
    """
    masks = {}
    for name, bits in packed.items():
        shape = tuple(shapes.get(name, (-1,)))
        if any(side < 0 for side in shape) or bits.dtype != torch.uint8 or bits.dim() != 1:
            raise ArtifactError("a packed mask has no valid shape", where=name)
        if bits.numel() != (math.prod(shape) + 7) // 8:
            raise ArtifactError(f"{bits.numel()} bytes cannot hold a mask of shape {shape}", where=name)
        flat = np.unpackbits(bits.cpu().numpy(), count=math.prod(shape))
        masks[name] = torch.from_numpy(flat).bool().reshape(shape)
    return masks


_Slot = tuple[nn.Module, str]


def _slots(model: nn.Module, names: Sequence[str]) -> dict[str, list[_Slot]]:
    """For each name all (module, attribute) pairs that hold its parameter; several where it is tied."""
    known = dict(model.named_parameters(remove_duplicate=False))
    owners: dict[int, list[_Slot]] = {}
    for module in model.modules():
        for attribute, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            owners.setdefault(id(parameter), []).append((module, attribute))
    if not names:
        raise UsageError("no weight is left to mask", where="names", fix="exclude fewer layers")
    slots: dict[str, list[_Slot]] = {}
    seen: set[int] = set()
    for name in names:
        if name not in known:
            _refuse_name(model, name, known)
        parameter = known[name]
        if not parameter.is_floating_point():
            raise ModelError(f"cannot mask a weight of {parameter.dtype}", where=name)
        if id(parameter) not in seen:
            slots[name] = owners[id(parameter)]
        seen.add(id(parameter))
    return slots


def _refuse_name(model: nn.Module, name: str, known: Mapping[str, object]) -> None:
    path, _, attribute = name.rpartition(".")
    module = dict(model.named_modules()).get(path)
    if module is not None and parametrize.is_parametrized(module, attribute):
        raise ModelError(
            "the weight is parametrized already",
            where=name,
            fix="remove it first with torch.nn.utils.parametrize.remove_parametrizations",
        )
    raise UsageError("the model has no such parameter", where=name, fix=closest(name, known))


def _attached(model: nn.Module) -> list[tuple[nn.Module, str, WeightMask]]:
    found = []
    for module in model.modules():
        if not parametrize.is_parametrized(module):
            continue
        for attribute, chain in module.parametrizations.items():  # type: ignore[operator, union-attr]
            found += [(module, attribute, mask) for mask in chain if isinstance(mask, WeightMask)]
    return found


def _detach(model: nn.Module, *, fuse: bool) -> None:
    for module, attribute, mask in _attached(model):
        # torch keeps the parametrized property on a class that deep copies share: take it from a private one
        shared = type(module)
        module.__class__ = type(shared.__name__, shared.__bases__, dict(vars(shared)))
        parametrize.remove_parametrizations(module, attribute, leave_parametrized=fuse)
        getattr(module, attribute).requires_grad_(mask.trainable)
        # torch appends the restored weight behind the bias; layers define it first
        for name in [name for name in module._parameters if name != attribute]:
            parameter = getattr(module, name)
            delattr(module, name)
            module.register_parameter(name, parameter)
