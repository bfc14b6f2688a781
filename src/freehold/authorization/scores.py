"""The optimiser of mask scores, which decide by crossing a threshold."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class ScoreAdam(torch.optim.Optimizer):
    """Adam whose denominator is never small against the others': ``sqrt(v) + floor * rms(sqrt(v))``.

    Plain Adam gives every score the same step size however little its gradient says, so that after a
    handful of steps most scores of a mask cross their threshold together and the network is gone.
    With the floor, the mean taken over all scores, only those with a gradient of the usual size move
    at the full rate. Scores stay within bounds, so that a weight cut early can come back.

    Args:
        params: tensors to optimise; one group is expected.
        lr: step size.
        floor: share of the root mean square of all denominators that is added to each; 0 is Adam.
        bounds: smallest and largest score.
        betas: decay of the running means of gradient and squared gradient.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        *,
        floor: float,
        bounds: tuple[float, float],
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        super().__init__(params, {"lr": lr, "floor": floor, "bounds": bounds, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update from the gradients at hand; parameters without one are left alone."""
        for group in self.param_groups:
            moving: list[Tensor] = [p for p in group["params"] if p.grad is not None]
            if moving:
                self._update(moving, [p.grad for p in moving if p.grad is not None], group)

    def _update(self, moving: list[Tensor], gradients: list[Tensor], group: dict[str, Any]) -> None:
        first, second = (self._moments(moving, name) for name in ("mean", "square"))
        step = group["step"] = group.get("step", 0) + 1
        beta1, beta2 = group["betas"]
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
        denominators = torch._foreach_sqrt(second)
        count = sum(s.numel() for s in second)
        rms = (torch.stack([s.sum() for s in second]).sum() / count).sqrt()
        correction: float = (1 - beta2**step) ** 0.5
        floor = group["floor"] * rms + 1e-8 * correction
        torch._foreach_add_(denominators, floor)
        updates = torch._foreach_div(first, denominators)
        torch._foreach_add_(moving, updates, alpha=-group["lr"] * correction / (1 - beta1**step))
        torch._foreach_clamp_min_(moving, group["bounds"][0])
        torch._foreach_clamp_max_(moving, group["bounds"][1])

    def _moments(self, moving: list[Tensor], name: str) -> list[Tensor]:
        for p in moving:
            if name not in self.state[p]:
                self.state[p][name] = torch.zeros_like(p)
        return [self.state[p][name] for p in moving]
