"""Confidence intervals and areas."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from freehold.errors import DataError
from freehold.statistics.tails import FEW, counted_tail


class Interval(NamedTuple):
    """Two-sided confidence interval ``[low, high]``."""

    low: float
    high: float


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Exact binomial interval of a proportion (Clopper and Pearson, Biometrika 1934).

    Args:
        successes: hits, in ``[0, trials]``.
        trials: independent draws, at least 1.
        confidence: coverage in ``(0, 1)``; the true coverage is never below it.

    Raises:
        DataError: counts or confidence out of range.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise DataError(
            f"{successes} successes in {trials} trials", where="clopper_pearson", fix="need 0 <= k <= n"
        )
    if not 0 < confidence < 1:
        raise DataError(f"confidence {confidence} is not in (0, 1)", where="clopper_pearson")
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else _rate(successes, trials, tail)
    high = 1.0 if successes == trials else _rate(successes + 1, trials, 1 - tail)
    return Interval(low, high)


def _rate(matches: int, trials: int, tail: float) -> float:
    """At which rate ``P(X >= matches)`` is ``tail``; both in (0, 1)."""
    if trials > FEW:
        from scipy.special import betaincinv

        return float(betaincinv(matches, trials - matches + 1, tail))
    low, high = 0.0, 1.0
    while low < (middle := (low + high) / 2) < high and high - low > 1e-15 * high:
        low, high = (middle, high) if counted_tail(matches, trials, middle) < tail else (low, middle)
    return middle


def paired_difference(only_first: int, only_second: int, trials: int, confidence: float = 0.95) -> Interval:
    """Interval for the difference of two proportions measured on the same trials.

    With ``b`` trials only the first got right and ``c`` only the second, the difference is
    ``(b - c) / n``. The share of discordant trials and the split among them get an exact interval
    each at half the error budget (Bonferroni); their product bounds the difference conservatively.

    Args:
        only_first: trials that only the first got right.
        only_second: trials that only the second got right.
        trials: all trials, at least 1.
        confidence: coverage in ``(0, 1)``.

    Returns:
        Bounds of the first proportion minus the second, in ``[-1, 1]``.

    Raises:
        DataError: counts out of range.
    """
    discordant = only_first + only_second
    if min(only_first, only_second) < 0 or discordant > trials:
        raise DataError(f"{only_first} + {only_second} of {trials} trials", where="paired_difference")
    half = 1 - (1 - confidence) / 2
    share = clopper_pearson(discordant, trials, half)
    split = clopper_pearson(only_first, discordant, half) if discordant else Interval(0.0, 1.0)
    corners = [s * (2 * p - 1) for s in share for p in split]
    return Interval(min(corners), max(corners))


def mean_interval(values: list[float], confidence: float = 0.95) -> tuple[float, Interval]:
    """Mean of independent repeats (seeds) with Student's interval; infinitely wide for one value.

    Raises:
        DataError: no values, or one that is not finite.
    """
    if not values or not all(map(math.isfinite, values)):
        raise DataError("need at least one value, all finite", where="mean_interval")
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, Interval(-math.inf, math.inf)
    from scipy.special import stdtrit

    variance = math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)
    half = float(stdtrit(len(values) - 1, (1 + confidence) / 2)) * math.sqrt(variance / len(values))
    return mean, Interval(mean - half, mean + half)


def log_area(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Area under ``values`` over the natural logarithm of ``sizes``, by the trapezoid rule, in nats.

    Args:
        sizes: positive and strictly ascending, at least two.
        values: as many, finite.

    Raises:
        DataError: sizes or values that are not as said.
    """
    ascending = all(a < b for a, b in itertools.pairwise(sizes))
    if len(sizes) < 2 or len(sizes) != len(values) or sizes[0] <= 0 or not ascending:
        raise DataError(
            f"sizes {list(sizes)} for {len(values)} values",
            where="log_area",
            fix="give at least two positive, strictly ascending sizes and a value for each",
        )
    if not all(map(math.isfinite, values)):
        raise DataError(f"values {list(values)}", where="log_area", fix="all must be finite")
    points = [(math.log(n), v) for n, v in zip(sizes, values, strict=True)]
    return math.fsum((x - w) * (v + u) / 2 for (w, u), (x, v) in itertools.pairwise(points))
