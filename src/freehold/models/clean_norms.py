"""Batch norm that takes its statistics from clean images only, while others pass through as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm


@dataclass
class CleanNorms:
    """What :func:`clean_norms` hands out.

    Attributes:
        hold: False while clean images pass: norm layers in training mode work as always, and keep the
            statistics of the batch. True while others pass: those statistics are used, as constants, and
            nothing is kept.
    """

    hold: bool = False
    _kept: dict[nn.Module, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def forward(self, norm: _BatchNorm, usual: Callable[[Tensor], Tensor], features: Tensor) -> Tensor:
        """What ``norm`` does in the place of its own forward."""
        if not norm.training:
            return usual(features)
        if self.hold:
            mean, variance = self._kept[norm]
            return F.batch_norm(features, mean, variance, norm.weight, norm.bias, False, 0.0, norm.eps)
        with torch.no_grad():
            axes = [0, *range(2, features.dim())]
            values = features.detach().float()
            mean = values.mean(axes, keepdim=True)  # var_mean takes far longer on CPUs
            variance = (values - mean).square().mean(axes)
            self._kept[norm] = (mean.flatten(), variance)
        return usual(features)


@contextmanager
def clean_norms(model: nn.Module) -> Iterator[CleanNorms]:
    """Inside the block, foreign images can pass without their statistics being used or remembered.

    Triggers look unlike the data. Normalised by their own statistics they train a network that is not the
    one that answers in evaluation mode, and perturbing its weights then teaches nothing (APP, ICCV 2023).
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    state = CleanNorms()
    for norm in norms:
        norm.forward = partial(state.forward, norm, norm.forward)  # type: ignore[method-assign]
    try:
        yield state
    finally:
        for norm in norms:
            del norm.forward  # the class's own shows again
