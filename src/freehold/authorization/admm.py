"""ADMM for sparse weights: exact projections, and the splitting variables with their penalty.

Minimise ``loss(W)`` subject to ``W`` sparse, by a sparse copy ``Z`` and a scaled dual ``U`` (Boyd et al.
2011; for networks Zhang et al., ECCV 2018): training pulls ``W`` towards ``Z - U``, and now and then
``Z`` becomes the projection of ``W + U`` and ``U`` grows by what still parts them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from freehold.errors import ModelError

Masks = dict[str, Tensor]
Projection = Callable[[Mapping[str, Tensor]], Masks]
Scope = Literal["global", "layer", "erk"]
FLOOR_SHARE, FLOOR_WEIGHTS = 0.01, 32  # of its weights a layer keeps this share, and so many, at least


def soft_threshold(values: Tensor, threshold: float) -> Tensor:
    """The proximal step of ``threshold * |x|``: towards zero by ``threshold``, and zero within it."""
    return values.sign() * (values.abs() - threshold).clamp_min(0)


def keep_counts(shapes: Mapping[str, torch.Size], sparsity: float, scope: Scope) -> dict[str, int]:
    """How many weights each layer keeps; together exactly ``round((1 - sparsity) * all)``.

    Args:
        shapes: of the weights, by name.
        sparsity: share that becomes zero, in (0, 1).
        scope: ``"layer"``: the same share everywhere. ``"erk"``: density in proportion to the sum of a
            layer's sides over their product (Erdos-Renyi kernel, Evci et al., ICML 2020), so that thin
            layers keep more. ``"global"``: the least a layer may keep; where the rest falls is decided
            by magnitude.

    Raises:
        ModelError: the floor of all layers together is more than may be kept.
    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    keep = round((1 - sparsity) * sum(sizes.values()))
    floors = {n: min(size, max(FLOOR_WEIGHTS, math.ceil(FLOOR_SHARE * size))) for n, size in sizes.items()}
    if sum(floors.values()) > keep:
        most = 1 - sum(floors.values()) / sum(sizes.values())
        raise ModelError(
            f"sparsity {sparsity:g} would all but empty a layer: with {FLOOR_WEIGHTS} weights or "
            f"{FLOOR_SHARE:.0%} left in each, {max(0.0, math.floor(1000 * most) / 1000):g} is the most",
            where="sparsity",
            fix="ask for less",
        )
    if scope == "global":
        return floors
    weight = {n: size * (sum(shapes[n]) / size if scope == "erk" else 1.0) for n, size in sizes.items()}
    return _shared(keep, weight, floors, sizes)


def _shared(
    keep: int, weight: Mapping[str, float], low: Mapping[str, int], high: Mapping[str, int]
) -> dict[str, int]:
    """``keep`` split in proportion to ``weight`` within the bounds, in whole numbers: by bisection."""

    def split(scale: float) -> dict[str, int]:
        return {n: min(high[n], max(low[n], math.floor(scale * w))) for n, w in weight.items()}

    below, above = 0.0, max(high[n] / w for n, w in weight.items()) + 1
    for _ in range(100):
        middle = (below + above) / 2
        below, above = (middle, above) if sum(split(middle).values()) <= keep else (below, middle)
    counts = split(below)
    for name in sorted(counts, key=lambda n: high[n] - counts[n], reverse=True):  # what rounding left over
        extra = min(high[name] - counts[name], keep - sum(counts.values()))
        counts[name] += extra
    return counts


def keep_largest(values: Mapping[str, Tensor], sparsity: float, scope: Scope) -> Masks:
    """Masks that keep the largest magnitudes: the projection onto the sparse weights is ``values * mask``.

    Exactly ``round((1 - sparsity) * all)`` weights are kept, also among equals.

    Raises:
        ModelError: see :func:`keep_counts`.
    """
    counts = keep_counts({n: v.shape for n, v in values.items()}, sparsity, scope)
    masks = {}
    for name, value in values.items():
        mask = torch.zeros(value.numel(), dtype=torch.bool, device=value.device)
        mask[value.abs().flatten().topk(counts[name]).indices] = True
        masks[name] = mask.view(value.shape)
    if scope != "global":
        return masks
    joint = torch.cat([torch.where(masks[n], math.inf, v.abs()).flatten() for n, v in values.items()])
    chosen = torch.zeros(len(joint), dtype=torch.bool, device=joint.device)
    chosen[joint.topk(round((1 - sparsity) * len(joint))).indices] = True
    parts = torch.split(chosen, [v.numel() for v in values.values()])
    return {n: part.view(v.shape) for (n, v), part in zip(values.items(), parts, strict=True)}


class Splitting(nn.Module):
    """Z, U and rho as buffers, so that they are saved and resumed with what is trained.

    Args:
        weights: the tensors that are to become sparse, by name.
        masks_of: masks of the nearest sparse weights to given ones.
        rho: first penalty.
        growth: factor of rho at each update.
        cap: largest rho.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        masks_of: Projection,
        *,
        rho: float,
        growth: float,
        cap: float,
    ) -> None:
        super().__init__()
        self.names, self.masks_of, self.growth, self.cap = tuple(weights), masks_of, growth, cap
        start = {name: weight.detach().clone() for name, weight in weights.items()}
        masks = masks_of(start)
        for number, name in enumerate(self.names):
            self.register_buffer(f"z{number}", start[name] * masks[name])
            self.register_buffer(f"u{number}", torch.zeros_like(start[name]))
        device = next(iter(start.values())).device
        for name, value in {"rho": rho, "primal": 1.0, "dual": 0.0}.items():
            self.register_buffer(name, torch.tensor(value, device=device))
        self._measure(start, [torch.zeros_like(z) for z in self._all("z")])

    def _all(self, kind: str) -> list[Tensor]:
        return [self.get_buffer(f"{kind}{number}") for number in range(len(self.names))]

    def penalty(self, weights: Mapping[str, Tensor]) -> Tensor:
        """``rho / 2 * sum |W - Z + U|^2``, differentiable in ``weights``."""
        pairs = zip(self.names, self._all("z"), self._all("u"), strict=True)
        total = torch.stack([(weights[name] - z + u).square().sum() for name, z, u in pairs]).sum()
        return self.get_buffer("rho") / 2 * total

    @torch.no_grad()
    def update(self, weights: Mapping[str, Tensor]) -> None:
        """One outer step: Z is projected anew, U grows by what is left, rho grows and U is rescaled."""
        before = [z.clone() for z in self._all("z")]
        sums = {name: weights[name] + u for name, u in zip(self.names, self._all("u"), strict=True)}
        masks = self.masks_of(sums)
        rho = self.get_buffer("rho")
        grown = (rho * self.growth).clamp_max(self.cap)
        for name, z, u in zip(self.names, self._all("z"), self._all("u"), strict=True):
            z.copy_(sums[name] * masks[name])
            u.copy_((sums[name] - z) * (rho / grown))
        self._measure(weights, before)
        rho.copy_(grown)

    def residuals(self) -> dict[str, Tensor]:
        """Of the last update: ``|W - Z| / |W|`` and ``rho |Z - Z'| / |W|``, and the penalty's weight."""
        return {
            "primal residual": self.get_buffer("primal"),
            "dual residual": self.get_buffer("dual"),
            "rho": self.get_buffer("rho"),
        }

    @torch.no_grad()
    def _measure(self, weights: Mapping[str, Tensor], before: list[Tensor]) -> None:
        def norm(tensors: list[Tensor]) -> Tensor:
            return torch.stack([t.square().sum() for t in tensors]).sum().sqrt()

        now, z = [weights[name] for name in self.names], self._all("z")
        size = norm(now).clamp_min(1e-12)
        self.get_buffer("primal").copy_(norm([w - s for w, s in zip(now, z, strict=True)]) / size)
        moved = norm([s - b for s, b in zip(z, before, strict=True)]) / size
        self.get_buffer("dual").copy_(self.get_buffer("rho") * moved)
