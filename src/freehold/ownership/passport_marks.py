"""What a passport key draws for each layer, and how bits stand in weights.

A passport p enters only through the mean over positions of what a filter sees of it, a vector S(p) as long as
a filter: the mean of the convolution of p with filter w is w . S(p). So S(p) itself is drawn, and nothing is
ever convolved. All projections are divided by the filter's norm: they are then standard normal for a
filter that knows nothing of the key, and scaling a filter changes none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from freehold.keys import Key
from freehold.models.norm_pairs import NormPair
from freehold.models.weights import state_hash

OVERSHOOT = 1.25  # bits are written a little beyond the margin, since a filter's norm changes as well


@dataclass(frozen=True, repr=False)
class Mark:
    """One layer's passports and bits.

    Attributes:
        pair: where.
        scale: ``(fan_in,)``, S of the passport that the private scale comes from.
        shift: ``(fan_in,)``, likewise the private shift.
        sign: ``(fan_in,)``, the direction that a filter's sign is read by.
        bits: int64 ``(channels,)``, 0 or 1.
    """

    pair: NormPair
    scale: Tensor
    shift: Tensor
    sign: Tensor
    bits: Tensor

    @cached_property
    def directions(self) -> Tensor:
        """All three, ``(fan_in, 3)``: passports of scale and shift, and the sign's."""
        return torch.stack([self.scale, self.shift, self.sign], 1)

    def to(self, device: torch.device) -> Mark:
        """The same on another device."""
        scale, shift, sign, bits = (t.to(device) for t in (self.scale, self.shift, self.sign, self.bits))
        return Mark(self.pair, scale, shift, sign, bits)


def draw_marks(
    key: Key, pairs: Sequence[NormPair], learned: Mapping[str, Tensor] | None = None
) -> list[Mark]:
    """The marks of a key: every bit a fair coin, independent of the passports and of all else.

    Bits depend on the references that suspects are aligned to, and on the layer's place among ``pairs``.
    Else a reference could be made from them, which sorts the filters of any network into the bits; or a layer
    in which they happen to stand be listed many times.

    Args:
        key: bound to the method.
        pairs: the marked layers.
        learned: holds ``reference.LAYER``, of layers without a mark as well; by default what the key holds.
    """
    held = key.learned if learned is None else learned
    bound = state_hash({name: tensor for name, tensor in held.items() if name.startswith("reference.")})
    return [
        Mark(
            pair,
            scale=key.stream("scale", pair.layer).normal(pair.fan_in),
            shift=key.stream("shift", pair.layer).normal(pair.fan_in),
            sign=key.stream("sign", pair.layer).normal(pair.fan_in),
            bits=key.stream("bits", number, pair.layer, bound).bits(pair.channels),
        )
        for number, pair in enumerate(pairs)
    ]


def projected(weight: Tensor, direction: Tensor) -> Tensor:
    """Each filter of ``(O, ...)`` along ``direction``, as a multiple of its norm.

    The norm counts as a constant in the gradient, which halves what the hinge costs.

    Args:
        weight: ``(O, ...)``.
        direction: ``(fan_in,)``, or several as ``(fan_in, n)``.

    Returns:
        ``(O,)`` or ``(O, n)``.
    """
    rows = direction.reshape(len(direction), -1).T  # (n, fan_in): the order that multiplies fastest
    if weight.dim() > 2 and not weight.is_contiguous():  # channels last: flat only in that order, or copied
        rows = rows.view(-1, *weight.shape[1:]).movedim(1, -1).flatten(1)
        weight = weight.movedim(1, -1)
    flat = weight.float().flatten(1)
    sizes = flat.detach().norm(dim=1).clamp_min(1e-12)
    found: Tensor = F.linear(rows, flat) / sizes
    return found[0] if direction.dim() == 1 else found.T


def read_bits(weight: Tensor, mark: Mark, *, canonical: bool) -> Tensor:
    """The bit in each filter, int64 ``(O,)``; -1 where a projection is exactly zero: no filter is there.

    Args:
        weight: ``(O, ...)``.
        mark: of that layer.
        canonical: read relative to the filter's own sign, see :attr:`Mark.sign`; if not, as published.
    """
    value = projected(weight, mark.scale).sign()
    if canonical:
        value = value * projected(weight, mark.sign).sign()
    return torch.where(value == 0, -1, (value > 0).long())


def shortfall(along: Tensor, sign: Tensor, bits: Tensor, margin: float, *, canonical: bool) -> Tensor:
    """By how much filters miss the margin on the side of their bits, ``(O,)``, at least 0.

    Args:
        along: ``(O,)``, their projections on the scale's passport.
        sign: ``(O,)``, on the direction that their sign is read by.
        bits: ``(O,)``, 0 or 1.
        margin: to be kept, by both projections if the reading is canonical.
        canonical: how bits are read.
    """
    wanted = (2 * bits - 1).to(along.dtype)
    if not canonical:
        return (margin - wanted * along).relu()
    return (margin - wanted * sign.detach().sign() * along).relu() + (margin - sign.abs()).relu()


@torch.no_grad()
def write_bits(weight: Tensor, mark: Mark, margin: float, *, canonical: bool) -> None:
    """Change ``weight (O, ...)`` in place, as little as possible, so that it holds the mark's bits."""
    flat = weight.float().flatten(1)
    sizes = flat.norm(dim=1).clamp_min(1e-12)
    along, sign = projected(weight, mark.scale), projected(weight, mark.sign)
    wanted = (2 * mark.bits - 1).to(along.dtype)
    reach = OVERSHOOT * margin
    directions, targets = [mark.scale], []
    if canonical:
        side = torch.where(sign < 0, -1.0, 1.0)
        directions, targets = [mark.scale, mark.sign], [side * sign.abs().clamp_min(reach)]
        wanted = wanted * side
    targets = [wanted * (wanted * along).clamp_min(reach), *targets]
    missing = torch.stack(targets) - torch.stack([along, sign][: len(targets)])  # (1 or 2, O)
    span = torch.stack(directions)
    change = (missing * sizes).T @ torch.linalg.pinv(span).T
    weight += change.view_as(weight).to(weight.dtype)
