from __future__ import annotations

import itertools
import math
import random
import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from freehold.errors import DataError
from freehold.statistics import (
    agreement_tail,
    binomial_masses,
    binomial_tail,
    detection,
    holm,
    matches_needed,
    trials_needed,
)


def exact(matches: int, trials: int, rate: float) -> Fraction:
    """The tail in whole numbers."""
    hit = Fraction(rate)
    a, b = hit.numerator, hit.denominator
    terms = (math.comb(trials, k) * a**k * (b - a) ** (trials - k) for k in range(matches, trials + 1))
    return Fraction(sum(terms), b**trials)


@pytest.mark.parametrize("trials", [1, 20, 100, 1000, 10_000])
@pytest.mark.parametrize("rate", [0.001, 0.01, 0.1, 0.3, 1 / 3, 0.5, 0.9])
def test_the_tail_equals_scipy(trials, rate):
    for matches in {1, *range(0, trials + 1, max(1, trials // 37)), trials}:
        expected = stats.binom.sf(matches - 1, trials, rate)
        if expected > 1e-300:
            assert binomial_tail(matches, trials, rate) == pytest.approx(expected, rel=1e-12, abs=0)


@given(st.integers(1, 300), st.data(), st.floats(1e-6, 1 - 1e-6))
@settings(max_examples=150, deadline=None)
def test_the_tail_is_never_below_the_exact_one(trials, data, rate):
    matches = data.draw(st.integers(0, trials))
    found, true = Fraction(binomial_tail(matches, trials, rate)), exact(matches, trials, rate)
    assert found >= true
    if true > Fraction(1, 10**300):
        assert found <= true * (1 + Fraction(1, 10**12))


@pytest.mark.parametrize("rate", [0.001, 0.1, 1 / 3, 0.5])
def test_nor_with_many_trials(rate):
    trials, hit = 10_000, Fraction(rate)
    for matches in (round(trials * rate * factor) for factor in (1.05, 1.2, 1.3)):
        # a hundred digits in fixed point, rounded down: below the exact tail by far less than 1e-50 of it
        term = math.comb(trials, matches) * hit.numerator**matches << 2000
        term = term * (hit.denominator - hit.numerator) ** (trials - matches) // hit.denominator**trials
        total = 0
        for k in range(matches, trials + 1):
            total += term
            term = term * (trials - k) * hit.numerator // ((k + 1) * (hit.denominator - hit.numerator))
        found = Fraction(binomial_tail(matches, trials, rate)) * 2**2000
        assert total * (1 + Fraction(1, 10**50)) <= found <= total * (1 + Fraction(1, 10**12))


def test_no_tail_is_rounded_to_nothing():
    assert binomial_tail(10_000, 10_000, 0.001) > 0
    assert (binomial_tail(0, 5, 0.1), binomial_tail(1, 5, 0.0), binomial_tail(5, 5, 1.0)) == (1, 0, 1)


@pytest.mark.parametrize("bad", [(-1, 5, 0.1), (6, 5, 0.1), (1, 5, 1.1), (1, 5, math.nan)])
def test_impossible_counts_and_rates_are_refused(bad):
    with pytest.raises(DataError):
        binomial_tail(*bad)


@pytest.mark.parametrize("trials, expected", [(100, (9, 28, 54, 74)), (20, (6, 11, 17, 20))])
def test_matches_needed_are_those_of_the_tables(trials, expected):
    assert tuple(matches_needed(trials, rate, 1e-6) for rate in (0.01, 0.1, 0.3, 0.5)) == expected


def test_some_levels_are_out_of_reach():
    assert matches_needed(10, 0.3, 1e-6) is None and matches_needed(0, 0.1, 0.05) is None
    assert detection(10, 0.3, 1e-6, 1.0) == 0


@given(st.floats(0.01, 0.6), st.floats(0.05, 0.39))
@settings(max_examples=30, deadline=None)
def test_trials_needed_give_the_power_and_fewer_do_not(rate, gap):
    share = rate + gap
    needed = trials_needed(rate, 1e-6, share, 0.95)
    assert detection(needed, rate, 1e-6, share) >= 0.95
    assert needed < 4 or detection(needed // 2, rate, 1e-6, share) < 0.95


def test_what_survives_must_be_above_chance():
    with pytest.raises(DataError):
        trials_needed(0.5, 1e-6, 0.5)


@pytest.mark.parametrize(
    "first, second",
    [([2, 3, 2], [1, 4, 2]), ([1, 2, 1, 3], [2, 2, 3, 0]), ([4, 3], [2, 5]), ([7], [7]), ([0, 6], [5, 1])],
)
def test_agreement_equals_counting_all_permutations(first, second):
    one = [c for c, n in enumerate(first) for _ in range(n)]
    two = [c for c, n in enumerate(second) for _ in range(n)]
    agreements = [
        sum(a == b for a, b in zip(one, shuffled, strict=True)) for shuffled in itertools.permutations(two)
    ]
    for matches in range(len(one) + 1):
        share = Fraction(sum(a >= matches for a in agreements), len(agreements))
        assert agreement_tail(matches, first, second) == pytest.approx(float(share), rel=1e-12)


def test_where_nearly_all_agrees_the_exact_value_costs_little():
    counts = [200] * 10
    began = time.process_time()
    all_agree = agreement_tail(2000, counts, counts)
    assert agreement_tail(1980, counts, counts) >= all_agree > 0
    assert time.process_time() - began < 2  # all powers of the polynomial take twenty seconds


def test_agreement_of_many_trials_is_bounded_from_above():
    rng, size = random.Random(0), 2400
    counts = [size // 4] * 4
    one = [c for c, n in enumerate(counts) for _ in range(n)]
    two = one.copy()
    seen = []
    for _ in range(200):
        rng.shuffle(two)
        seen.append(sum(a == b for a, b in zip(one, two, strict=True)))
    for matches in (600, 620, 640):
        assert agreement_tail(matches, counts, counts) >= sum(s >= matches for s in seen) / len(seen) - 0.1
    assert agreement_tail(size, counts, counts) < 1e-100


def test_a_constant_answer_proves_nothing_however_the_labels_fell():
    for labels in ([100, 0], [0, 100], [60, 40], [28, 72]):
        assert agreement_tail(labels[0], labels, [100, 0]) == 1


def test_agreement_wants_the_same_trials():
    with pytest.raises(DataError):
        agreement_tail(1, [2, 2], [1, 2])


def test_holm_is_that_of_the_textbook():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == [] and holm([0.9, 0.8]) == [1, 1]
    with pytest.raises(DataError):
        holm([0.1, math.nan])


@given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_keeps_the_order_and_lies_between_raw_and_bonferroni(values):
    adjusted = holm(values)
    assert all(p <= q <= min(1, len(values) * p) for p, q in zip(values, adjusted, strict=True))
    order = sorted(range(len(values)), key=values.__getitem__)
    assert [adjusted[i] for i in order] == sorted(adjusted)


@pytest.mark.parametrize("trials, rate", [(1, 0.5), (100, 0.1), (10_000, 0.001), (10_000, 0.5)])
def test_the_null_distribution_equals_scipys(trials, rate):
    masses = binomial_masses(trials, rate)
    expected = stats.binom.pmf(range(trials + 1), trials, rate)
    assert len(masses) == trials + 1 and masses == pytest.approx(list(expected), rel=1e-8, abs=1e-300)
    with pytest.raises(DataError):
        binomial_masses(0, 0.5)
