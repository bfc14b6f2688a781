"""Exact tails: how likely it is that chance alone gives as many matches."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from fractions import Fraction

from freehold.errors import DataError

_UPWARD = 1 + 5e-13  # above scipy's rounding (1.3e-13 measured), below the 1e-12 that is promised
FEW = 128  # trials that are counted in whole numbers, in less than a millisecond
_LEAST = sys.float_info.min  # smaller tails are reported as this: a probability is never rounded to 0


def binomial_tail(matches: int, trials: int, rate: float) -> float:
    """``P(X >= matches)`` for ``X ~ Binomial(trials, rate)``: the one-sided exact p-value.

    Never below the exact value, and above it by less than one part in 1e12 wherever it exceeds 1e-300.

    Raises:
        DataError: counts or rate out of range.
    """
    _check_binomial(matches, trials, rate, "binomial_tail")
    if matches == 0 or rate == 1:
        return 1.0
    if rate == 0:
        return 0.0
    if trials <= FEW:
        return min(1.0, max(_LEAST, counted_tail(matches, trials, rate) * _UPWARD))
    from scipy.special import betainc

    return min(1.0, max(_LEAST, float(betainc(matches, trials - matches + 1, rate)) * _UPWARD))


def counted_tail(matches: int, trials: int, rate: float) -> float:
    """The tail in whole numbers, rounded once: faster than importing scipy for a single verdict."""
    above, of = rate.as_integer_ratio()
    below = of - above
    ways: int = math.comb(trials, matches) * above**matches * below ** (trials - matches)
    total = ways
    for k in range(matches, trials):
        ways = ways * ((trials - k) * above) // ((k + 1) * below)
        total += ways
    return float(total / of**trials)


def binomial_masses(trials: int, rate: float) -> list[float]:
    """``P(X = k)`` for k from 0 to ``trials``: the null distribution, for a picture and not for a decision.

    Raises:
        DataError: no trials, or a rate that is not in (0, 1).
    """
    if trials < 1 or not 0 < rate < 1:
        raise DataError(f"{trials} trials at rate {rate}", where="binomial_masses", fix="rate in (0, 1)")
    if trials <= FEW:
        return [math.comb(trials, k) * rate**k * (1 - rate) ** (trials - k) for k in range(trials + 1)]
    import numpy as np
    from scipy.special import gammaln, xlog1py, xlogy

    k = np.arange(trials + 1)
    ways = gammaln(trials + 1) - gammaln(k + 1) - gammaln(trials - k + 1)
    masses: list[float] = np.exp(ways + xlogy(k, rate) + xlog1py(trials - k, -rate)).tolist()
    return masses


def matches_needed(trials: int, rate: float, alpha: float) -> int | None:
    """Fewest matches whose :func:`binomial_tail` is at most ``alpha``; None if not even all suffice."""
    _check_binomial(0, trials, rate, "matches_needed")
    if trials == 0 or binomial_tail(trials, trials, rate) > alpha:
        return None
    low, high = 0, trials  # the tail at low is above alpha, at high it is not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if binomial_tail(middle, trials, rate) > alpha else (low, middle)
    return high


def trials_needed(rate: float, alpha: float, share: float, power: float = 0.99) -> int:
    """Fewest trials in which a suspect that matches ``share`` of them is found with probability ``power``.

    Args:
        rate: chance that an innocent suspect matches a trial.
        alpha: level of the test.
        share: what a derived model matches, above ``rate``.
        power: how surely it is to be found.

    Raises:
        DataError: the two cannot be told apart.
    """
    if not 0 < rate < share <= 1:
        raise DataError(f"a share of {share} is not above the null's {rate}", where="trials_needed")

    def enough(trials: int) -> bool:
        return detection(trials, rate, alpha, share) >= power

    high = 1
    while not enough(high):
        high *= 2
        if high > 1 << 40:
            raise DataError(f"a share of {share} is too near to {rate}", where="trials_needed")
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def detection(trials: int, rate: float, alpha: float, share: float) -> float:
    """Power: the chance that a suspect matching ``share`` of the trials is found at level ``alpha``."""
    needed = matches_needed(trials, rate, alpha)
    return 0.0 if needed is None else binomial_tail(needed, trials, share)


def agreement_tail(matches: int, first: Sequence[int], second: Sequence[int]) -> float:
    """Chance of at least ``matches`` agreements if one of two labellings is shuffled at random.

    How often each label occurs on either side is taken as given, so that an answer that never changes
    agrees no more than chance, whatever the labels. Exact up to 2,000 trials or for two classes, and never
    below the exact value; beyond, a bound of Chatterjee (Probab. Theory Relat. Fields 2007).

    Args:
        matches: observed agreements.
        first: how often each class occurs in one labelling.
        second: the same for the other; both sum to the number of trials.

    Raises:
        DataError: negative counts, or sums that differ.
    """
    trials = sum(first)
    if len(first) != len(second) or trials != sum(second) or min([0, *first, *second]) < 0:
        raise DataError("the two labellings are not of the same trials", where="agreement_tail")
    if matches <= 0:
        return 1.0
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a or b]
    if len(pairs) <= 2:
        share = _two_classes(matches, trials, *pairs[0]) if pairs else Fraction(0)
    elif trials <= 2000:
        share = _rooks(matches, trials, pairs)
    else:
        mean = sum(a * b for a, b in pairs) / trials
        beyond = max(0.0, matches - mean)
        return min(1.0, max(_LEAST, math.exp(-(beyond**2) / (4 * mean + 2 * beyond)) * _UPWARD))
    return min(1.0, max(_LEAST, float(share) * _UPWARD)) if share else 0.0


def _two_classes(matches: int, trials: int, a: int, b: int) -> Fraction:
    """With x shared of ``a`` and ``b`` in the first class there are ``trials - a - b + 2x`` agreements."""
    least = max(0, a + b - trials, -((trials - a - b - matches) // 2))
    if least > min(a, b):
        return Fraction(0)
    term, total = math.comb(a, least) * math.comb(trials - a, b - least), 0
    for x in range(least, min(a, b) + 1):
        total += term
        term = term * (a - x) * (b - x) // ((x + 1) * (trials - a - b + x + 1))
    return Fraction(total, math.comb(trials, b))


def _rooks(matches: int, trials: int, pairs: Sequence[tuple[int, int]]) -> Fraction:
    """Class c contributes ``sum_j C(a, j) C(b, j) j! x^j``; inclusion and exclusion make it a tail."""
    most = sum(min(pair) for pair in pairs)
    kept = most - matches + 1  # only the highest powers count: few where nearly all agrees
    if kept <= 0:
        return Fraction(0)
    rooks = [1]  # rooks[j]: ways to choose j agreements fewer than the most, the other trials left open
    for a, b in pairs:
        own = [math.comb(a, j) * math.comb(b, j) * math.factorial(j) for j in range(min(a, b), -1, -1)[:kept]]
        product = [0] * min(kept, len(rooks) + len(own) - 1)
        for i, x in enumerate(rooks):
            for j, y in enumerate(own[: kept - i]):
                product[i + j] += x * y
        rooks = product
    signed = (
        (-1) ** (j - matches) * math.comb(j - 1, matches - 1) * rooks[most - j] * math.factorial(trials - j)
        for j in range(matches, most + 1)
    )
    return Fraction(sum(signed), math.factorial(trials))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (Scand. J. Statist. 1979), in the order given.

    Rejecting each hypothesis whose adjusted value is at most alpha keeps the chance of any false
    rejection at most alpha, however the tests depend on each other.

    Raises:
        DataError: a value outside ``[0, 1]``.
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise DataError(f"p-values {list(p_values)}", where="holm", fix="all must lie in [0, 1]")
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def _check_binomial(matches: int, trials: int, rate: float, where: str) -> None:
    if not 0 <= matches <= trials:
        raise DataError(f"{matches} matches in {trials} trials", where=where, fix="need 0 <= k <= n")
    if not 0 <= rate <= 1:
        raise DataError(f"rate {rate} is not in [0, 1]", where=where)
