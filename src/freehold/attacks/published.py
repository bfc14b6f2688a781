"""How ownership is verified as published: by accuracy, with material that the claimant hands in.

None of this is evidence, and nothing in this package decides by it. It is here so that what a forger reaches
under it can be shown beside what he reaches under :func:`freehold.ownership.base.verify`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from freehold.models.norm_pairs import NormPair
from freehold.models.two_branches import with_numbers

# The publications give no thresholds. These are strict ones: whoever fails them is refused by anybody.
CLOSE = 0.02  # of the deployment's accuracy, within which the private branch has to come
DETECTED = 0.99  # of the claimant's own bits
TRIGGERS = 0.9  # of the claimant's triggers, with the labels that he says they have


@dataclass(frozen=True)
class ClaimedLayer:
    """What a claimant hands in for one layer.

    Attributes:
        pair: the layer and its norm.
        scale: ``(fan_in,)``, his passport for the scale, as the mean that a filter sees of it.
        shift: ``(fan_in,)``, his passport for the shift.
        bits: int64 ``(channels,)`` of 0 and 1, the signature that he says he wrote.
        h: from ``(2, C)``, the projections of the filters on both passports, to the private scale and
            shift; None for DeepIPR, where the projections are these.
    """

    pair: NormPair
    scale: Tensor
    shift: Tensor
    bits: Tensor
    h: nn.Module | None = None

    def projections(self, model: nn.Module) -> Tensor:
        """Both passports as the layer's filters see them, ``(2, C)``."""
        return unit_filters(model, self.pair) @ torch.stack([self.scale, self.shift]).T.to(torch.float32)


@dataclass(frozen=True)
class PassportClaim:
    """All that a claimant hands in.

    Attributes:
        layers: in any order; which they are is his choice.
        statistics: running statistics of private norms, by norm and buffer name; his choice as well.
    """

    layers: tuple[ClaimedLayer, ...]
    statistics: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict, repr=False)

    @torch.no_grad()
    def private(self, model: nn.Module) -> nn.Module:
        """The private branch: the suspect's filters under the claimant's norms."""
        numbers = {norm: dict(own) for norm, own in self.statistics.items()}
        for layer in self.layers:
            seen = layer.projections(model).T
            scale, shift = seen if layer.h is None else layer.h(seen)
            numbers.setdefault(layer.pair.norm, {}).update(weight=scale, bias=shift)
        return with_numbers(model, numbers)

    @torch.no_grad()
    def detected(self, model: nn.Module) -> float:
        """Mean over layers of the share of bits that stand in the signs of the projections."""
        shares = []
        for layer in self.layers:
            signs = layer.projections(model)[:, 0].sign()
            shares.append(float((signs == 2 * layer.bits - 1).float().mean()))
        return sum(shares) / len(shares)

    def accepted(self, model: nn.Module, deployed: float, private: float) -> bool:
        """Whether the published protocol grants the claim, given both branches' accuracies."""
        return private >= deployed - CLOSE and self.detected(model) >= DETECTED


@dataclass(frozen=True)
class TriggerClaim:
    """Images that a claimant hands in, and the labels that he says he taught.

    Attributes:
        images: uint8 ``(n, C, H, W)``.
        labels: int64 ``(n,)``.
    """

    images: Tensor
    labels: Tensor

    def detected(self, answers: Tensor) -> float:
        """Share of a suspect's answers ``(n,)`` that are the claimed labels."""
        return float((answers == self.labels).float().mean())

    def accepted(self, answers: Tensor) -> bool:
        """Whether the published protocol grants the claim."""
        return self.detected(answers) >= TRIGGERS


def unit_filters(model: nn.Module, pair: NormPair) -> Tensor:
    """Filters of a layer as rows of norm 1, ``(channels, fan_in)``."""
    flat = model.get_parameter(f"{pair.layer}.weight").detach().float().flatten(1)
    units: Tensor = flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return units
