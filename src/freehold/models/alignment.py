"""Channels of a layer brought back to the order, sign and scale that they had in a reference.

A network can be rewritten without changing what it computes: channels change places, a norm undoes a
sign or a scale. Whoever reads something out of single weights has to undo that first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ROUNDS = 8  # of matching outputs and inputs in turn; two or three are enough where there is a match
CLEAR = 0.8  # mean |cosine| from which on no other start is tried


@dataclass(frozen=True)
class Aligned:
    """A layer in the coordinates of its reference.

    Attributes:
        weight: of the reference's shape; the sign of a channel is the reference's as well.
        outputs: int64 ``(O,)``, the channel that stands in each place.
        inputs: int64 ``(I,)``, likewise.
        likeness: mean |cosine| of the matched channels, 1 for the reference itself.
    """

    weight: Tensor
    outputs: Tensor
    inputs: Tensor
    likeness: float


@torch.no_grad()
def align(weight: Tensor, reference: Tensor, orders: Sequence[Tensor] = ()) -> Aligned:
    """Undo permutation, sign and scale of output and input channels.

    Both weights are first balanced, so that scales play no part. Then outputs are matched by the
    assignment of the largest total |cosine|, inputs likewise under that match, and so on in turn, from
    several orders of the inputs: as they are, ``orders``, and a guess from what a permutation of the
    outputs leaves alone. The match of the largest likeness counts.

    Args:
        weight: ``(O, I, ...)``, of a convolution or a linear layer.
        reference: of the same shape.
        orders: of the inputs, int64 ``(I,)``; those in which earlier layers' outputs were found.
    """
    mine, _, _ = _balanced(weight)
    theirs, rows, columns = _balanced(reference)
    count = theirs.shape[1]
    best = _matched(mine, theirs, torch.arange(count))
    for order in [*(o for o in orders if len(o) == count), None]:
        if best[-1] >= CLEAR:
            break
        found = _matched(mine, theirs, _guess(mine, theirs) if order is None else order)
        best = max(best, found, key=lambda match: match[-1])
    outputs, signs, inputs, flips, likeness = best
    back = mine[outputs][:, inputs] * signs[:, None, None] * flips[:, None] * rows * columns
    return Aligned(back.reshape(reference.shape), outputs, inputs, likeness)


Match = tuple[Tensor, Tensor, Tensor, Tensor, float]  # outputs, their signs, inputs, their signs, likeness


def _balanced(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``(O, I, K)`` with outputs of norm 1 and inputs of equal norm, and the factors taken out."""
    flat = weight.detach().double().cpu().reshape(*weight.shape[:2], -1)
    rows, columns = (torch.ones(shape).double() for shape in ((len(flat), 1, 1), (1, flat.shape[1], 1)))
    for _ in range(10):
        columns = columns * _size(flat / (rows * columns), (0, 2), (len(flat) / flat.shape[1]) ** 0.5)
        rows = rows * _size(flat / (rows * columns), (1, 2), 1.0)
    return flat / (rows * columns), rows, columns


def _size(flat: Tensor, axes: tuple[int, int], target: float) -> Tensor:
    """Norms over ``axes`` as multiples of ``target``; 1 for what is zero."""
    sizes = flat.square().sum(axes, keepdim=True).sqrt() / target
    return torch.where(sizes > 1e-12, sizes, torch.ones_like(sizes))


def _matched(mine: Tensor, theirs: Tensor, inputs: Tensor) -> Match:
    flips = torch.ones(len(inputs)).double()
    best: Match | None = None
    for _ in range(ROUNDS):
        placed = mine[:, inputs] * flips[:, None]
        outputs, signs, likeness = _assigned(theirs.flatten(1) @ placed.flatten(1).T)
        if best is not None and likeness <= best[-1] + 1e-9:
            break
        best = (outputs, signs, inputs, flips, likeness)
        turned = (mine[outputs] * signs[:, None, None]).transpose(0, 1).flatten(1)
        inputs, flips, _ = _assigned(theirs.transpose(0, 1).flatten(1) @ turned.T)
    assert best is not None  # the first round always counts
    return best


def _assigned(likeness: Tensor) -> tuple[Tensor, Tensor, float]:
    """The best one-to-one choice of a column for each row, the signs there, and the mean size."""
    from scipy.optimize import linear_sum_assignment

    _, chosen = linear_sum_assignment(likeness.abs().numpy(), maximize=True)
    columns = torch.from_numpy(chosen)
    values = likeness.gather(1, columns[:, None])[:, 0]
    return columns, torch.where(values < 0, -1.0, 1.0).double(), float(values.abs().mean())


def _guess(mine: Tensor, theirs: Tensor) -> Tensor:
    """Inputs matched by their sorted sizes, position by position: in these, outputs may stand anywhere."""
    profiles = [w.abs().sort(0).values.transpose(0, 1).flatten(1) for w in (theirs, mine)]
    return _assigned(1 / (1e-6 + torch.cdist(profiles[0], profiles[1])))[0]
