"""Each loss, forward and backward, against the operation that it cannot do without."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.speed.figures import Figure
from benchmarks.speed.measures import Here, Subject, peak_bytes
from benchmarks.speed.ratio import Ratio
from freehold.training.losses import bounded_divergence, distillation, fisher_ratio, label_divergence, mmd

BATCH, WIDE, FEATURES, CLASSES = 32, 16_384, 256, 10
Loss = Callable[[Tensor, Tensor], Tensor]


def expanded_mmd(source: Tensor, target: Tensor) -> Tensor:
    """As it is published: through all differences, ``(2B, 2B, D)``."""
    stacked = torch.cat([source, target])
    n, batch = len(stacked), len(source)
    distance = (stacked[None] - stacked[:, None]).square().sum(2)
    bandwidth = distance.detach().sum() / (n * n - n) / 4
    kernel = sum((torch.exp(-distance / (bandwidth * 2**i)) for i in range(5)), torch.zeros(()))
    return (
        kernel[:batch, :batch] + kernel[batch:, batch:] - kernel[:batch, batch:] - kernel[batch:, :batch]
    ).mean()


def gram(source: Tensor, target: Tensor) -> Tensor:
    """All inner products: less than any two-sample distance of all pairs costs."""
    stacked = torch.cat([source, target])
    return (stacked @ stacked.T).sum()


def class_sums(features: Tensor, labels: Tensor) -> Tensor:
    """Features of length one, added up by class."""
    return (F.one_hot(labels, CLASSES).float().T @ F.normalize(features, dim=1)).square().sum()


def soft_entropy(logits: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy with a teacher's probabilities: distillation without the teacher's own entropy."""
    return F.cross_entropy(logits, teacher.softmax(1))


def drawn(features: int, labelled: bool) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    first = torch.randn(BATCH, features, generator=rng).requires_grad_()
    if labelled:
        return first, torch.randint(CLASSES, (BATCH,), generator=rng)
    return first, torch.randn(BATCH, features, generator=rng) + 0.1


def both(loss: Loss, floor: Loss, features: int, labelled: bool = False) -> tuple[Subject, Subject]:
    given = drawn(features, labelled)

    def call(function: Loss) -> Tensor:
        return torch.autograd.grad(function(*given), given[0])[0]

    return Here(partial(call, loss)), Here(partial(call, floor))


def agreement() -> Mapping[str, float]:
    """How far value and gradient are from the published form."""
    (source, target), found = drawn(WIDE, False), []
    for function in (mmd, expanded_mmd):
        value = function(source, target)
        found.append((value.item(), torch.autograd.grad(value, source)[0]))
    (value, gradient), (expected, reference) = found
    return {
        "mmd value, relative error": abs(value / expected - 1),
        "mmd gradient, relative error": float((gradient - reference).norm() / reference.norm()),
    }


class Mmd:
    """What the Gram form saves, and that it is the same function."""

    def measure(self, quick: bool) -> list[Figure]:
        """Memory and errors; the time is a ratio of its own."""
        ours, theirs = both(mmd, expanded_mmd, WIDE)
        memory = ours.ask(peak_bytes) / theirs.ask(peak_bytes)
        errors = [Figure(name, error, 1e-5, kind="amount") for name, error in agreement().items()]
        return [Figure("mmd / its expansion, peak memory", memory, 0.25, kind="memory"), *errors]


LOSSES = [
    Ratio("mmd / inner products, 16,384 features", partial(both, mmd, gram, WIDE), memory=float("inf")),
    Ratio("mmd / inner products, 256 features", partial(both, mmd, gram, FEATURES)),
    Ratio("mmd: speed-up over its expansion", partial(both, expanded_mmd, mmd, WIDE), 30, at_least=True),
    Mmd(),
    Ratio(
        "fisher ratio / class sums",
        partial(both, partial(fisher_ratio, num_classes=CLASSES), class_sums, FEATURES, True),
    ),
    Ratio("distillation / soft cross-entropy", partial(both, distillation, soft_entropy, CLASSES)),
    *(
        Ratio(f"{name} / cross-entropy", partial(both, loss, F.cross_entropy, CLASSES, True))
        for name, loss in {
            "label divergence": partial(label_divergence, reduction="mean"),
            "bounded divergence": partial(bounded_divergence, bound=3.0),
        }.items()
    ),
]
