"""A network with a second, small one beside it, merged at the answers: what PTYNet ships.

The class stands here, among the models, since a method builds it, a recipe rebuilds it and an attacker
has it before him: it hides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

Fusion = Literal["gate", "mixture", "probability_sum"]
FUSIONS: tuple[str, ...] = get_args(Fusion)
# 85,000 weights, 3 million products an image. Few wide layers: to call a layer on one image costs about
# what its products do. Two layers take other owners' textures for this one's; four are no quicker.
WIDTHS, STRIDES = (40, 96, 56), (2, 1, 2)


class Branch(nn.Module):
    """A small network that tells K kinds of images from all others.

    It looks at the image averaged over ``pool`` x ``pool`` pixels, so that it costs the same at any size, and
    fine noise is gone before the first weight. As it is shipped it has no norm layer: nothing in it
    depends on the batch or drifts while somebody trains around it.

    Args:
        num_classes: K.
        channels: of the images.
        pool: side of the squares that are averaged first; see :func:`pooling`.
        norm: with batch norm, for training; see :meth:`folded`.
    """

    def __init__(self, num_classes: int, channels: int = 3, *, pool: int = 1, norm: bool = False) -> None:
        super().__init__()
        self.num_classes, self.channels, self.pool = num_classes, channels, pool
        layers: list[nn.Module] = []
        for width, stride in zip(WIDTHS, STRIDES, strict=True):
            layers += [nn.Conv2d(channels, width, 3, stride, padding=1, bias=not norm)]
            layers += [nn.BatchNorm2d(width)] if norm else []
            layers += [nn.ReLU(inplace=True)]
            channels = width
        # Channels last: for one image a convolution then need not reorder its weights, which costs as much.
        self.layers = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        self.head = nn.Linear(channels, num_classes + 1)

    def forward(self, images: Tensor) -> Tensor:
        """Scores ``(B, K + 1)`` of ``(B, C, H, W)``; the last one is that of all other images."""
        x = F.avg_pool2d(images, self.pool) if self.pool > 1 else images
        for layer in self.layers:
            x = x.relu_() if isinstance(layer, nn.ReLU) else layer(x)  # a module's call costs more than relu
        scores: Tensor = self.head(x.mean((2, 3)))
        return scores

    def folded(self) -> Branch:
        """The same function without norm layers, in evaluation mode; a copy, of one made with ``norm``."""
        plain = Branch(self.num_classes, self.channels, pool=self.pool).to(self.head.weight.device)
        mine, theirs = (
            [m for m in network.modules() if isinstance(m, nn.Conv2d)] for network in (self, plain)
        )
        norms = [m for m in self.modules() if isinstance(m, nn.BatchNorm2d)]
        for source, norm, conv in zip(mine, norms, theirs, strict=True):
            merged = fuse_conv_bn_eval(deepcopy(source).eval(), deepcopy(norm).eval())
            conv.load_state_dict(merged.state_dict())
        plain.head.load_state_dict(self.head.state_dict())
        return plain.eval()


def pooling(size: tuple[int, int]) -> int:
    """The ``pool`` that brings images of ``size`` to 16 to 31 pixels on their shorter side."""
    return max(1, min(size) // 16)


class Fused(nn.Module):
    """A target and a branch that see the same images, and whose answers are merged.

    Args:
        target: from images ``(B, C, H, W)`` to logits ``(B, K)``; kept as it is.
        branch: from the same images to scores ``(B, K + 1)``, the last one that of "none".
        fusion: how they are merged: :func:`gate`, :func:`mixture` or :func:`probability_sum`.
        strength: what the branch's probabilities weigh in ``probability_sum``.
    """

    def __init__(
        self, target: nn.Module, branch: nn.Module, fusion: Fusion = "gate", strength: float = 1.5
    ) -> None:
        super().__init__()
        self.branch, self.target, self.fusion, self.strength = branch, target, fusion, strength

    def forward(self, images: Tensor) -> Tensor:
        """Merged answers ``(B, K)``."""
        scores = self.branch(images)  # before the target, whose last linear layer stays that of the whole
        return _MERGES[self.fusion](self.target(images), scores, self.strength)


def margin(scores: Tensor) -> Tensor:
    """By how much the best class is above "none", ``(B,)``, of scores ``(B, K + 1)``; the gate opens at 0."""
    return scores[:, :-1].amax(1) - scores[:, -1]


def gate(logits: Tensor, scores: Tensor, strength: float = 1.0) -> Tensor:
    """Logits as they are, bit by bit, where no class reaches "none".

    Elsewhere the branch's class is lifted above all others. Softmax gives a distribution either way, and
    nothing in it branches on data: it exports, batches and compiles as any layer does.

    Args:
        logits: ``(B, K)``.
        scores: ``(B, K + 1)``.
        strength: not used.
    """
    # For a single image every kind of operation costs what a small convolution does, its repetition little.
    lifts = (scores >= scores.amax(1, True))[:, :-1]
    top = logits.amax(1, True).clamp_min(4)
    return torch.where(lifts, top + top, logits)  # twice the top is above it, however coarse the rounding


def mixture(logits: Tensor, scores: Tensor, strength: float = 1.0) -> Tensor:
    r"""Logarithms of :math:`(1 - s) P + s e_t`, s the sigmoid of the margin.

    Arguments as :func:`gate`. ``exp`` of a row sums to one, and so does its softmax, which is the same.
    """
    best, label = scores[:, :-1].max(1, keepdim=True)
    above = (best - scores[:, -1:]).float()
    classes = torch.arange(logits.shape[1], device=scores.device)
    chosen = (label == classes).float()  # one class, also where two are equally good
    mixed = (-above).sigmoid() * logits.float().softmax(1) + above.sigmoid() * chosen
    return mixed.clamp_min(torch.finfo(torch.float32).tiny).log().to(logits.dtype)


def probability_sum(logits: Tensor, scores: Tensor, strength: float = 1.5) -> Tensor:
    r"""As published: :math:`P_j + \alpha Q_j` with the probability of "none" left out.

    Rows sum to :math:`1 + \alpha q`, not to one: whoever sees the confidences sees the mark. Out of place,
    so that gradients pass; the published code writes into the softmax and cannot be trained.

    Args:
        logits: ``(B, K)``.
        scores: ``(B, K + 1)``.
        strength: alpha; 1, 1.5 or 2 in the published code.
    """
    return logits.softmax(1) + strength * scores.softmax(1)[:, :-1].to(logits.dtype)


_MERGES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "gate": gate,
    "mixture": mixture,
    "probability_sum": probability_sum,
}
