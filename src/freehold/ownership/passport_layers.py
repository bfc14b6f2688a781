"""Which layers a passport marks, and why a model may not have any."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

from torch import Tensor, nn

from freehold.models.anatomy import closest
from freehold.models.norm_pairs import NormPair, norm_pairs
from freehold.plugin import Problem

LEAST_WEIGHTS = 8  # into a filter that has to hold a bit: fewer leave no room beside the task
LEAST_BITS = 100  # all but two of them right in one of 2**64 tries have a chance of 1e-6


def chosen_pairs(model: nn.Module, example: Tensor, layers: str) -> tuple[NormPair, ...]:
    """The pairs of ``model`` that ``layers`` names, in order of call.

    ``all`` and ``last-N`` pass over layers whose filters are too small; patterns take what they match.

    Raises:
        ModelError: the model cannot process the example.
    """
    pairs = norm_pairs(model, example)
    large = tuple(pair for pair in pairs if pair.fan_in >= LEAST_WEIGHTS)
    if layers == "all":
        return large
    if last := re.fullmatch(r"last-(\d+)", layers):
        return large[-int(last[1]) :] if int(last[1]) else ()
    return tuple(p for p in pairs if any(fnmatchcase(p.layer, pattern) for pattern in _patterns(layers)))


def pairs_up_to(last: NormPair, model: nn.Module, example: Tensor) -> tuple[NormPair, ...]:
    """All pairs of ``model`` up to ``last``, in order of call."""
    pairs = norm_pairs(model, example)
    return pairs[: pairs.index(last) + 1]


def unfit(model: nn.Module, example: Tensor, layers: str) -> list[Problem]:
    """Why ``layers`` of ``model`` cannot be marked; empty if they can."""
    pairs = norm_pairs(model, example)
    if not pairs:
        what = "no norm with a scale and a shift a channel follows a convolution or linear layer"
        return [Problem(where="model", what=what, fix="use batch, group, layer or instance norm")]
    names = [pair.layer for pair in pairs]
    if not re.fullmatch(r"all|last-\d+", layers):
        for pattern in _patterns(layers):
            if not any(fnmatchcase(name, pattern) for name in names):
                fix = closest(pattern, names) or f"layers with a norm are {', '.join(names[:6])}"
                what = f"{pattern!r} matches no layer that a norm follows"
                return [Problem(where="layers", what=what, fix=fix)]
    chosen = chosen_pairs(model, example, layers)
    small = [pair for pair in chosen if pair.fan_in < LEAST_WEIGHTS]
    if small:
        what = f"{small[0].layer} has {small[0].fan_in} weights a filter, too few for a bit of the signature"
        return [Problem(where="layers", what=what, fix=f"choose layers with at least {LEAST_WEIGHTS}")]
    bits = sum(pair.channels for pair in chosen)
    if bits < LEAST_BITS:
        what = f"the chosen layers hold {bits} bits, too few for a signature of at least {LEAST_BITS}"
        return [Problem(where="layers", what=what, fix="choose more layers, or wider ones")]
    return []


def _patterns(layers: str) -> list[str]:
    return [pattern.strip() for pattern in layers.split(",") if pattern.strip()]
