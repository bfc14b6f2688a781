"""Seeded, stratified selection of rows: how a validation split is cut from train, and how sets are capped."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from freehold.errors import UsageError


def stratified_order(labels: Tensor, stream: Generator) -> Tensor:
    """A shuffle of the rows of ``labels`` (N,) of which every prefix holds the classes in proportion."""
    shuffled = torch.randperm(len(labels), generator=stream)
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    _, sizes = torch.unique_consecutive(labels[by_class], return_counts=True)
    starts = sizes.cumsum(0) - sizes
    place = torch.arange(len(labels)) - starts.repeat_interleave(sizes)
    # The j-th of n images of a class stands at (j + 1/2) / n of the whole.
    return by_class[((place + 0.5) / sizes.repeat_interleave(sizes)).argsort(stable=True)]


def carve(labels: Tensor, fractions: Sequence[float], stream: Generator) -> list[Tensor]:
    """Disjoint sorted row sets, one a fraction of ``labels`` (N,), then one with all rows left.

    Every part gets two rows or more where there are enough, as one row cannot show two classes.
    """
    for fraction in fractions:
        if not 0 < fraction <= 0.5:
            raise UsageError(
                f"fraction {fraction} is not in (0, 0.5]", where="val_fraction", fix="for example 0.1"
            )
    sizes = [max(2, round(fraction * len(labels))) for fraction in fractions]
    order, parts = stratified_order(labels, stream), []
    for size in sizes:
        parts.append(order[:size].sort().values)
        order = order[size:]
    return [*parts, order.sort().values]


def cap(labels: Tensor, limit: int | None, stream: Generator) -> Tensor:
    """Sorted rows of a stratified sample of at most ``limit`` rows of ``labels`` (N,)."""
    if limit is None or limit >= len(labels):
        return torch.arange(len(labels))
    if limit < 2:
        raise UsageError(f"{limit} images cannot show two classes", where="limit", fix="use 2 or more")
    return stratified_order(labels, stream)[:limit].sort().values
