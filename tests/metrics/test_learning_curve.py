from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.errors import ConfigError, DataError
from freehold.metrics.learning_curve import LearningCurve, slc_auc
from freehold.statistics import log_area

SIZES = (10, 20, 50, 400)


def curve(*rows, sizes=SIZES, budget="equal", attacker="thief") -> LearningCurve:
    return LearningCurve(attacker=attacker, budget=budget, sizes=sizes, accuracies=rows)


def test_a_constant_gap_has_the_area_gap_times_nats():
    high, low = curve([0.5, 0.6, 0.7, 0.9]), curve([0.4, 0.5, 0.6, 0.8], attacker="scratch")
    found = slc_auc(high, low)
    assert found.value == pytest.approx(0.1 * math.log(40))
    assert found.normalised == pytest.approx(0.1)
    assert (found.low, found.high) == (None, None) and found.reference == "scratch"
    assert "against scratch" in str(found)


rows = st.lists(st.floats(0, 1), min_size=4, max_size=4)


@given(rows, rows)
def test_the_area_is_that_of_numpy_and_changes_sign_with_the_roles(mine, theirs):
    found = slc_auc(curve(mine), curve(theirs)).value
    expected = np.trapezoid(np.array(mine) - np.array(theirs), np.log(SIZES))
    assert found == pytest.approx(expected, abs=1e-12)
    assert slc_auc(curve(theirs), curve(mine)).value == pytest.approx(-found, abs=1e-12)


@given(rows, st.floats(1e-4, 1e4))
def test_areas_add_over_intervals_and_counts_may_be_ratios(row, scale):
    whole = log_area(SIZES, row)
    assert whole == pytest.approx(log_area(SIZES[:3], row[:3]) + log_area(SIZES[2:], row[2:]), abs=1e-12)
    assert whole == pytest.approx(log_area([n * scale for n in SIZES], row), abs=1e-9)


def test_seeds_are_paired_and_give_an_interval():
    mine = curve([0.5] * 4, [0.7] * 4, [0.6] * 4)
    theirs = curve([0.4] * 4, [0.5] * 4, [0.6] * 4)
    found = slc_auc(mine, theirs)
    gaps = np.array([0.1, 0.2, 0.0]) * math.log(40)
    assert found.per_seed == pytest.approx(gaps)
    half = 4.302652729911275 * gaps.std(ddof=1) / math.sqrt(3)  # Student's t, 2 degrees of freedom, 97.5 %
    assert (found.low, found.high) == pytest.approx((gaps.mean() - half, gaps.mean() + half))
    assert mine.mean == pytest.approx([0.6] * 4)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (curve([0.1] * 3, sizes=(10, 20, 50)), "sizes"),
        (curve([0.1] * 4, budget="published"), "budget"),
        (curve([0.1] * 4, [0.1] * 4), "number of seeds"),
    ],
)
def test_curves_measured_otherwise_are_not_compared(other, named):
    with pytest.raises(DataError, match=named):
        slc_auc(curve([0.2] * 4), other)


def test_the_common_part_of_two_grids_can_be_asked_for():
    shorter = curve([0.1] * 3, sizes=(20, 50, 100))
    found = slc_auc(curve([0.2, 0.3, 0.3, 0.9]), shorter, common=True)
    assert found.sizes == (20, 50) and found.value == pytest.approx(0.2 * math.log(2.5))
    with pytest.raises(DataError, match="fewer than two sizes"):
        slc_auc(curve([0.2] * 4), curve([0.1] * 2, sizes=(50, 60)), common=True)


@pytest.mark.parametrize("sizes", [(10,), (20, 10), (10, 10), (1, 5)])
def test_unsorted_and_short_grids_are_refused(sizes):
    with pytest.raises(ConfigError, match=r"ascending|at least 2"):
        curve([0.5] * len(sizes), sizes=sizes)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.1, 1.1])
def test_accuracies_that_are_no_shares_are_refused(bad):
    with pytest.raises(ConfigError):
        curve([0.5, bad, 0.5, 0.5])
    if not math.isfinite(bad):
        with pytest.raises(DataError, match="finite"):
            log_area(SIZES, [0.5, bad, 0.5, 0.5])


@pytest.mark.parametrize("sizes", [(3, 2, 4, 5), (0, 1, 2, 3), (1, 2, 3)])
def test_an_area_needs_a_proper_axis(sizes):
    with pytest.raises(DataError, match="ascending"):
        log_area(sizes, [0.5] * 4)
