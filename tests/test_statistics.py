from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from freehold.errors import DataError
from freehold.statistics import clopper_pearson, mean_interval, paired_difference


@pytest.mark.parametrize("n", [1, 10, 360, 10_000])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.97, 1.0])
def test_clopper_pearson_equals_scipy(n, share):
    k = round(n * share)
    expected = stats.binomtest(k, n).proportion_ci(0.95, "exact")
    assert clopper_pearson(k, n) == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-12)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_clopper_pearson_contains_the_estimate_and_widens_with_confidence(counts):
    k, n = counts
    narrow, wide = clopper_pearson(k, n, 0.9), clopper_pearson(k, n, 0.99)
    assert 0 <= wide.low <= narrow.low <= k / n <= narrow.high <= wide.high <= 1


@pytest.mark.parametrize("counts", [(-1, 5), (6, 5), (0, 0)])
def test_impossible_counts_are_refused(counts):
    with pytest.raises(DataError):
        clopper_pearson(*counts)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.integers(0, n), st.just(n))))
def test_paired_difference_contains_the_estimate(counts):
    b, c, n = counts
    if b + c > n:
        with pytest.raises(DataError):
            paired_difference(b, c, n)
        return
    low, high = paired_difference(b, c, n)
    assert -1 <= low <= (b - c) / n <= high <= 1
    assert paired_difference(c, b, n) == pytest.approx((-high, -low))


def test_paired_difference_covers_at_the_stated_rate():
    rng = stats.multinomial(200, [0.08, 0.03, 0.89], seed=7)
    hits = sum(
        low <= 0.05 <= high for b, c, _ in rng.rvs(400) for low, high in [paired_difference(b, c, 200)]
    )
    assert hits / 400 >= 0.95


def test_identical_predictions_still_leave_doubt():
    low, high = paired_difference(0, 0, 100)
    assert low < 0 < high < 0.06


def test_mean_interval_equals_student():
    values = [0.1, 0.4, 0.35]
    mean, interval = mean_interval(values)
    assert interval == pytest.approx(stats.t.interval(0.95, 2, loc=mean, scale=stats.sem(values)))
    assert mean_interval([1.0])[1] == (-math.inf, math.inf)
    with pytest.raises(DataError):
        mean_interval([1.0, math.nan])
