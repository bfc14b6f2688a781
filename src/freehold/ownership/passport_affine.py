"""Private scales and shifts out of passports and weights: the part of a marked network that is learned."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from freehold.keys import Key
from freehold.models.norm_pairs import NormPair
from freehold.ownership.passport_marks import Mark, projected, read_bits, shortfall, write_bits

NARROWEST = 16  # of h's middle: in fewer both passports may look alike, and h then gets steep
GAIN = 4.0  # of h's second matrix as it is drawn, over torch's size: carries a forged passport off


class HiddenNet(nn.Module):
    """h: ``(..., C)`` to ``(..., C)`` through a quarter as many, at least 16, without biases."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = max(NARROWEST, channels // 4)
        self.narrow = nn.Linear(channels, width, bias=False)
        self.wide = nn.Linear(width, channels, bias=False)

    @classmethod
    @torch.no_grad()
    def drawn(cls, channels: int, key: Key, layer: str) -> Self:
        """With weights from the key."""
        net, stream = cls(channels), key.stream("h", layer)
        for linear, size in ((net.narrow, 1.0), (net.wide, GAIN)):
            bound = size / math.sqrt(linear.in_features)
            linear.weight.copy_(bound * (2 * stream.uniform(*linear.weight.shape) - 1))
        return net

    @classmethod
    def learned(cls, channels: int, learned: Mapping[str, Tensor], layer: str) -> Self:
        """As :meth:`PassportAffine.learned` wrote it down."""
        net = cls(channels)
        net.load_state_dict({name: learned[f"h.{layer}.{name}"] for name in net.state_dict()})
        return net

    def forward(self, given: Tensor) -> Tensor:
        """h of each row."""
        found: Tensor = self.wide(self.inside(given))
        return found

    def inside(self, given: Tensor) -> Tensor:
        """The narrow layer's values."""
        return F.leaky_relu(self.narrow(given), 0.01)

    @torch.no_grad()
    def fit(self, given: Tensor, targets: Tensor) -> None:
        """Give ``targets (2, C)`` for ``given (2, C)``, by the smallest change of the second matrix."""
        inside = self.inside(given)
        self.wide.weight += (torch.linalg.pinv(inside) @ (targets - self.wide(inside))).T


class PassportAffine(nn.Module):
    """``forward(model)`` gives the private scale and shift of each marked layer, ``(C,)`` each.

    With u and v the projections of the layer's filters on its two passports, these are h(u) and h(v), h a
    small network of the layer's own; without h (DeepIPR) they are u and v themselves. The passports and
    bits are plain attributes: no state dict holds them.

    Args:
        marks: of each layer, on the model's device.
        nets: h of each layer; none for DeepIPR.
        margin: that bits keep, in multiples of what a filter without a mark shows.
        canonical: bits are read relative to each filter's own sign; if not, as published.
        draw: the marks for a reference; without one they stay as they are.
        unmarked: layers in front of marked ones, whose reference tells in which order channels come in.
    """

    def __init__(
        self,
        marks: Sequence[Mark],
        nets: Sequence[nn.Module],
        *,
        margin: float,
        canonical: bool,
        draw: Callable[[Mapping[str, Tensor]], Sequence[Mark]] | None = None,
        unmarked: Sequence[NormPair] = (),
    ) -> None:
        super().__init__()
        self.marks, self.margin, self.canonical, self._draw = tuple(marks), margin, canonical, draw
        self.nets = nn.ModuleList(nets).to(marks[0].scale.device)
        self.seen: list[Tensor] | None = None  # projections of the forward pass that is under way
        self._referenced = (*(mark.pair for mark in marks), *unmarked)
        for number, pair in enumerate(self._referenced):
            self.register_buffer(f"reference{number}", marks[0].scale.new_zeros(pair.channels, pair.fan_in))

    def forward(self, model: nn.Module) -> list[tuple[Tensor, Tensor]]:
        """Scale and shift of each layer of ``model``."""
        with torch.autocast(self.marks[0].scale.device.type, enabled=False):
            seen = [self._projections(model, mark) for mark in self.marks]
            given = [three[:2] for three in seen]
            found = [net(two) for net, two in zip(self.nets, given, strict=True)] if self.nets else given
        if torch.is_grad_enabled():
            self.seen = seen  # the hinge of the same step needs them again
        return [(scale, shift) for scale, shift in found]

    def _projections(self, model: nn.Module, mark: Mark) -> Tensor:
        """u, v and the projection that tells the sign, ``(3, C)``."""
        return projected(_weight(model, mark.pair), mark.directions).T

    def missing(self, model: nn.Module) -> Tensor:
        """The hinge: how far all bits together miss their margin."""
        seen, self.seen = self.seen or [self._projections(model, mark) for mark in self.marks], None
        scale, _, sign = torch.cat(seen, 1)  # of all layers at once: many small operations cost more
        bits = torch.cat([mark.bits for mark in self.marks])
        return shortfall(scale, sign, bits, self.margin, canonical=self.canonical).sum()

    @torch.no_grad()
    def right(self, model: nn.Module) -> dict[str, float]:
        """Share of the bits that stand in each layer of ``model``."""
        read = {
            m.pair.layer: (read_bits(_weight(model, m.pair), m, canonical=self.canonical), m)
            for m in self.marks
        }
        return {layer: float((bits == mark.bits).float().mean()) for layer, (bits, mark) in read.items()}

    def forged(self, rng: torch.Generator) -> PassportAffine:
        """The same h with passports that somebody else drew."""
        return PassportAffine(
            [replace(m, scale=_noise(m.scale, rng), shift=_noise(m.shift, rng)) for m in self.marks],
            list(self.nets),
            margin=self.margin,
            canonical=self.canonical,
        )

    @torch.no_grad()
    def write(self, model: nn.Module) -> None:
        """Write the bits into the weights, and let h give what it gave before.

        The weights from before are kept: they are the reference that a suspect is aligned to. Only then are
        the bits drawn, so that nobody gains by being aligned, nor by a reference of his own making.
        """
        before = [torch.stack(pair) for pair in self(model)]
        for number, pair in enumerate(self._referenced):
            self.get_buffer(f"reference{number}").copy_(_weight(model, pair).flatten(1))
        self.bind()
        for mark in self.marks:
            write_bits(_weight(model, mark.pair), mark, self.margin, canonical=self.canonical)
        self.fit(model, before)

    def bind(self) -> None:
        """Draw the bits that belong to the reference."""
        if self._draw is not None:
            device = self.marks[0].scale.device
            self.marks = tuple(mark.to(device) for mark in self._draw(self._references()))

    def _references(self) -> dict[str, Tensor]:
        return {
            f"reference.{pair.layer}": self.get_buffer(f"reference{number}").bfloat16()
            for number, pair in enumerate(self._referenced)
        }

    def learned(self) -> dict[str, Tensor]:
        """What a key has to hold: reference, in bf16 since it is only compared, and h of each layer."""
        found = self._references()
        for mark, net in zip(self.marks, self.nets, strict=False):
            found |= {f"h.{mark.pair.layer}.{n}": t for n, t in net.state_dict().items()}
        return found

    @torch.no_grad()
    def fit(self, model: nn.Module, targets: Sequence[Tensor]) -> None:
        """Let each h give its target ``(2, C)``; nothing happens where there is no h."""
        for mark, net, target in zip(self.marks, self.nets, targets, strict=False):
            if isinstance(net, HiddenNet):
                net.fit(self._projections(model, mark)[:2], target)


def _noise(like: Tensor, rng: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=rng).to(like)


def _weight(model: nn.Module, pair: NormPair) -> Tensor:
    return model.get_parameter(f"{pair.layer}.weight")
