"""Loss terms shared by several methods, as closed-form tensor code."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

KERNELS = 5


def mmd(source: Tensor, target: Tensor) -> Tensor:
    r"""Squared multi-kernel maximum mean discrepancy, biased V-statistic, in Gram form.

    Five Gaussian kernels :math:`\exp(-\|a-b\|^2 / (4^{-1} 2^i w))`, :math:`i=0..4`, are summed, where
    the bandwidth :math:`w` is the mean squared distance over all pairs of the stacked batch, held
    constant in the gradient (Long et al., ICML 2015; the setting of NTL, Wang et al., ICLR 2022).
    Distances come from one ``(2B, 2B)`` matrix product instead of a ``(2B, 2B, D)`` difference; the
    features are centred first, since the product form loses precision far from the origin.

    Args:
        source: ``(B, D)`` or ``(B, ...)`` features, flattened per sample.
        target: as many samples of the same shape.

    Returns:
        Scalar in ``[0, 10]``, computed in float32.
    """
    batch = len(source)
    stacked = torch.cat([source.flatten(1), target.flatten(1)]).float()
    with torch.autocast(stacked.device.type, enabled=False):
        stacked = stacked - stacked.mean(0, keepdim=True).detach()
        squares = stacked.square().sum(1)
        distance = (squares[:, None] + squares[None, :] - 2 * (stacked @ stacked.T)).clamp_min(0)
        bandwidth = distance.detach().sum() / (4 * batch * batch - 2 * batch) / 2 ** (KERNELS // 2)
        # exp(-d / (w 2^i)) is the square of exp(-d / (w 2^(i+1))): one exponential serves all kernels.
        kernel = torch.exp(
            -distance / (bandwidth.clamp_min(torch.finfo(torch.float32).tiny) * 2 ** (KERNELS - 1))
        )
        total = kernel
        for _ in range(KERNELS - 1):
            kernel = kernel.square()
            total = total + kernel
        within = total[:batch, :batch].mean() + total[batch:, batch:].mean()
        return within - 2 * total[:batch, batch:].mean()


def label_divergence(logits: Tensor, labels: Tensor, reduction: str) -> Tensor:
    """KL divergence from the one-hot label to the prediction, which equals cross-entropy.

    Args:
        logits: ``(B, K)``.
        labels: ``(B,)``.
        reduction: ``"batchmean"`` is the mean over the batch; ``"mean"`` also divides by K, as the
            reference code of NTL and CUTI does.

    Returns:
        Scalar, at least 0.
    """
    value = F.cross_entropy(logits.float(), labels)
    return value / logits.shape[1] if reduction == "mean" else value


def bounded_divergence(logits: Tensor, labels: Tensor, bound: float) -> Tensor:
    """Mean cross-entropy with each sample's share cut at ``bound`` nats.

    A sample that is already wrong by that much gives no more gradient, so that the effort goes to
    those that still transfer and nothing is pushed without end.
    """
    return F.cross_entropy(logits.float(), labels, reduction="none").clamp_max(bound).mean()


def fisher_ratio(features: Tensor, labels: Tensor, num_classes: int, *, eps: float = 1e-6) -> Tensor:
    r"""How well the classes can be told apart in feature space: between- over within-class scatter.

    With features of unit length, :math:`\mu_c` the mean of class c and :math:`\mu` that of the means,

    .. math:: R = \frac{\operatorname{mean}_c \|\mu_c - \mu\|^2}
                     {\operatorname{mean}_c \operatorname{mean}_{i \in c} \|f_i - \mu_c\|^2 + \epsilon}

    over the classes with at least two samples in the batch: one sample says nothing about scatter. Every
    class weighs the same. (Non-transferable Pruning divides by the sum over classes: R is its value
    times the number of classes.)

    Args:
        features: ``(B, D)``, any scale: each sample is divided by its length.
        labels: ``(B,)`` in ``[0, num_classes)``.
        num_classes: C; a class may be missing from the batch.
        eps: keeps the ratio finite where each class is a point.

    Returns:
        Scalar, at least 0, in float32; 0 with a zero gradient if fewer than two classes count.
    """
    with torch.autocast(features.device.type, enabled=False):
        unit = F.normalize(features.float(), dim=1)
        member = F.one_hot(labels, num_classes).float()  # (B, C)
        sizes = member.sum(0)
        counts = (sizes >= 2).float()
        share = counts / counts.sum().clamp_min(1)
        means = member.T @ unit / sizes.clamp_min(1)[:, None]  # (C, D)
        between = share @ (means - share @ means).square().sum(1)
        scatter = (unit - means.index_select(0, labels)).square().sum(1)
        within = share @ (member.T @ scatter / sizes.clamp_min(1))
        return between / (within + eps)


def distillation(logits: Tensor, teacher: Tensor) -> Tensor:
    """KL divergence from teacher to student, mean over the batch, in nats; both ``(B, K)`` logits."""
    return F.kl_div(
        F.log_softmax(logits.float(), 1),
        F.log_softmax(teacher.float(), 1),
        reduction="batchmean",
        log_target=True,
    )
