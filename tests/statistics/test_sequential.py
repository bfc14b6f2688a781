from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from freehold.errors import DataError
from freehold.statistics import Wealth, binomial_tail


@given(st.integers(0, 12), st.integers(0, 12), st.floats(0.05, 0.9))
@settings(max_examples=60, deadline=None)
def test_the_wealth_is_the_integral(matches, misses, rate):
    def bet(q: float) -> float:
        return (q / rate) ** matches * ((1 - q) / (1 - rate)) ** misses

    expected = integrate.quad(bet, rate, 1)[0] / (1 - rate)
    assert math.exp(Wealth(rate)._log_wealth(matches, misses)) == pytest.approx(expected, rel=1e-6)


@given(st.floats(0.05, 0.95), st.lists(st.booleans(), max_size=30))
@settings(max_examples=60, deadline=None)
def test_under_the_null_the_next_bet_is_fair_or_worse(rate, history):
    wealth = Wealth(rate)
    wealth.update(history)
    k, n = wealth.matches, wealth.trials
    now, up, down = (math.exp(wealth._log_wealth(*c)) for c in ((k, n - k), (k + 1, n - k), (k, n - k + 1)))
    assert rate * up + (1 - rate) * down <= now * (1 + 1e-7)


def test_stopping_at_the_best_moment_does_not_break_the_level():
    rng = np.random.default_rng(0)
    runs, alpha = 800, 0.05
    rejected = 0
    for row in rng.random((runs, 120)) < 0.2:
        wealth = Wealth(0.2)
        rejected += wealth.update(row.tolist()) <= alpha
    assert rejected / runs <= alpha
    # what peeking at the fixed-size test would have done
    naive = sum(
        any(binomial_tail(int(c), n, 0.2) <= alpha for n, c in enumerate(row.cumsum(), 1))
        for row in rng.random((100, 120)) < 0.2
    )
    assert naive / 100 > 2 * alpha


def test_a_clear_case_costs_few_trials():
    wealth, trials = Wealth(0.1), 0
    while wealth.p_value > 1e-6:
        wealth.update([True])
        trials += 1
    assert trials == 7


def test_the_p_value_never_rises_and_reach_says_what_can_still_be_hoped_for():
    wealth = Wealth(0.3)
    before = 1.0
    for match in [True] * 6 + [False] * 20:
        hope = wealth.reach(1)
        now = wealth.update([match])
        assert hope <= now <= before
        before = now
    assert wealth.reach(0) == wealth.p_value < 0.05
    assert Wealth(0.3).update([False] * 50) == 1


@pytest.mark.parametrize("rate", [0, 1, math.nan])
def test_a_null_of_nothing_or_everything_is_refused(rate):
    with pytest.raises(DataError):
        Wealth(rate)


def test_extremes_do_not_overflow():
    wealth = Wealth(0.001)
    assert 0 < wealth.update([True] * 400) < 1e-300
    assert Wealth(0.999).update([False] * 2000) == 1
