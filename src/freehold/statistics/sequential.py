"""A test that may be looked at after every trial and stopped at will."""

from __future__ import annotations

import math
from collections.abc import Sequence

from freehold.errors import DataError

_DOWNWARD = 1e-9  # taken off the logarithm of the wealth: more than rounding can have added


class Wealth:
    r"""Anytime-valid test of "each trial matches with chance at most ``rate``, whatever came before".

    A gambler starts with 1 and bets on matches at odds that are fair under the null. He spreads his stake
    evenly over all match rates q in ``[rate, 1]``; after S matches and F misses he holds

    .. math:: W = \frac{1}{1-r} \int_r^1 \left(\frac{q}{r}\right)^S
                                       \left(\frac{1-q}{1-r}\right)^F dq,

    a non-negative supermartingale under the null. By Ville's inequality the chance that W ever reaches
    ``1 / alpha`` is at most alpha, so ``1 / max W`` is a p-value at any stopping time (mixture method of
    Robbins, Ann. Math. Statist. 1970; e-processes, Ramdas et al., Statist. Sci. 2023).

    Args:
        rate: the null's chance of a match, in (0, 1).
    """

    def __init__(self, rate: float) -> None:
        if not 0 < rate < 1:
            raise DataError(f"rate {rate} is not in (0, 1)", where="Wealth")
        self.rate, self.matches, self.trials, self._best = rate, 0, 0, 0.0

    def update(self, matched: Sequence[bool]) -> float:
        """Take in further trials, in order; returns the p-value so far."""
        for match in matched:
            self.trials += 1
            self.matches += bool(match)
            self._best = max(self._best, self._log_wealth(self.matches, self.trials - self.matches))
        return self.p_value

    @property
    def p_value(self) -> float:
        """``1 / (largest wealth so far)``, in (0, 1]; never rises."""
        return math.exp(-min(self._best, 700.0))

    def reach(self, further: int) -> float:
        """The p-value if all of ``further`` trials match: what can still be hoped for."""
        ahead = self._log_wealth(self.matches + further, self.trials - self.matches)
        return math.exp(-min(max(self._best, ahead), 700.0))

    def _log_wealth(self, matches: int, misses: int) -> float:
        from scipy.special import betaincc, betaln

        above = float(
            betaincc(matches + 1, misses + 1, self.rate)
        )  # share of the stake's mass above the rate
        if above <= 0:
            return -math.inf
        integral = float(betaln(matches + 1, misses + 1)) + math.log(above)
        odds = matches * math.log(self.rate) + (misses + 1) * math.log1p(-self.rate)
        return integral - odds - _DOWNWARD
