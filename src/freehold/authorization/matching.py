"""How far images are from what a network's batch norm layers remember of its training data."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn


class _Moments(torch.autograd.Function):
    """Mean and standard deviation ``(C,)`` of ``(B, C, ...)``, by torch's one-pass batch norm kernel.

    Several times faster than ``mean`` and ``var`` on half precision maps, in both directions.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        ones = torch.ones(x.shape[1], device=x.device)
        _, mean, inverse = torch.native_batch_norm(x, ones, ones, None, None, True, 0.0, epsilon)
        deviation = inverse.reciprocal()
        ctx.save_for_backward(x, mean, deviation)
        return mean, deviation

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        x, mean, deviation = ctx.saved_tensors
        shape = (1, -1, *(1,) * (x.ndim - 2))
        count = x.numel() // x.shape[1]
        slope = gradients[1] / deviation / count
        offset = gradients[0] / count - slope * mean
        return torch.addcmul(offset.view(shape).to(x.dtype), x, slope.view(shape).to(x.dtype)), None


def moments(x: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Mean and ``sqrt(variance + epsilon)``, each ``(C,)``, of ``x`` ``(B, C, ...)``; differentiable."""
    mean, deviation = _Moments.apply(x, epsilon)
    return mean, deviation


def statistics_gap(x: Tensor, mean: Tensor, variance: Tensor, epsilon: float) -> Tensor:
    """How far the channels of ``x`` are from stored statistics, in units of the stored deviation.

    ``mean_c ((mu_c - m_c) / s_c)^2 + mean_c (sigma_c / s_c - 1)^2``, ``s_c = sqrt(variance_c + epsilon)``.

    Args:
        x: ``(B, C, ...)``.
        mean: ``(C,)`` stored mean.
        variance: ``(C,)`` stored variance.
        epsilon: added to both variances, as the layer does.
    """
    stored = (variance + epsilon).sqrt()
    found_mean, found = moments(x, epsilon)
    return ((found_mean - mean) / stored).square().mean() + (found / stored - 1).square().mean()


def statistics_layers(model: nn.Module) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    """The layers that stored mean and variance of their input, by dotted name."""
    layers = ((n, m) for n, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
    return {name: layer for name, layer in layers if layer.running_mean is not None}


def untrained_statistics(model: nn.Module) -> list[str]:
    """Names of the layers of :func:`statistics_layers` whose statistics are those of initialisation."""
    return [name for name, layer in statistics_layers(model).items() if _fresh(layer)]


def _fresh(layer: nn.modules.batchnorm._BatchNorm) -> bool:
    assert layer.running_mean is not None and layer.running_var is not None
    counted = layer.num_batches_tracked is not None and int(layer.num_batches_tracked) > 0
    # Weights from files without counters have 0 there, so the values decide.
    return not counted and bool((layer.running_mean == 0).all() and (layer.running_var == 1).all())


class StatisticsTap:
    """Measures, in forward passes inside the ``with`` block, how far each layer is from its statistics."""

    def __init__(self, model: nn.Module) -> None:
        self.layers = list(statistics_layers(model).values())
        self._gaps: list[Tensor] = []
        self._hooks = ExitStack()

    def __enter__(self) -> Self:
        for layer in self.layers:
            self._hooks.callback(layer.register_forward_pre_hook(self._measure).remove)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooks.close()

    def gaps(self) -> Tensor:
        """One value a call of a layer ``(L,)`` since they were last asked for, in the order of the calls."""
        found = torch.stack(self._gaps)
        self._gaps.clear()
        return found

    def _measure(self, layer: nn.modules.batchnorm._BatchNorm, args: tuple[Tensor, ...]) -> None:
        assert layer.running_mean is not None and layer.running_var is not None
        self._gaps.append(statistics_gap(args[0], layer.running_mean, layer.running_var, layer.eps))
