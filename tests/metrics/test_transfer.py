from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from freehold.data import Domain, Domains, Split
from freehold.errors import DataError
from freehold.metrics.claims import Claims, Verdict, worst
from freehold.metrics.transfer import source_target_drop, summarise


def domain(name: str, labels: torch.Tensor, classes: int = 4) -> Domain:
    split = Split(torch.zeros(len(labels), 1, 8, 8, dtype=torch.uint8), labels)
    return Domain(name, tuple(map(str, range(classes))), split, split, split, {})


def answers(labels: torch.Tensor, right: int) -> torch.Tensor:
    """Predictions of which the first ``right`` hit."""
    wrong = (labels + 1) % 4
    return torch.where(torch.arange(len(labels)) < right, labels, wrong)


LABELS = torch.arange(400) % 4
DOMAINS = Domains(domain("here", LABELS), [domain("there", LABELS), domain("elsewhere", LABELS)])


def measure(here=(380, 376), there=(320, 100), elsewhere=(200, 100)):
    counts = {"here": here, "there": there, "elsewhere": elsewhere}
    return summarise(DOMAINS, {n: tuple(answers(LABELS, k) for k in pair) for n, pair in counts.items()})


def test_drops_and_st_d_follow_their_definitions():
    evaluation = measure()
    assert evaluation.source_drop == pytest.approx(0.01)
    assert evaluation.target_drop == pytest.approx((0.55 + 0.25) / 2)
    denominator = (220 / 320 + 100 / 200) / 2  # mean of relative drops, not mean of ratios
    assert evaluation.st_d.value == pytest.approx((4 / 380) / denominator)
    assert evaluation.overall == pytest.approx((0.94 + 1 - 0.25) / 2)
    there = evaluation.domains[1]
    assert (there.chance, there.corrected) == (0.25, 0.0)
    assert there.transferred and there.drop_low < there.drop < there.drop_high


def test_a_rising_source_gives_a_signed_value_and_a_flag():
    st_d = measure(here=(376, 380)).st_d
    assert st_d.value < 0 and st_d.clipped == 0 and "rose" in st_d.flags[0]


@pytest.mark.parametrize(("source_after", "value"), [(0.8, math.inf), (0.9, math.nan), (0.95, math.nan)])
def test_no_target_drop_is_never_a_good_number(source_after, value):
    st_d = source_target_drop((0.9, source_after), [(0.5, 0.6)])
    assert st_d.value == value or (math.isnan(value) and math.isnan(st_d.value))
    assert "no protection" in st_d.flags[0]


def test_a_tiny_target_drop_is_flagged_unstable():
    assert "unstable" in source_target_drop((0.9, 0.8), [(0.8, 0.7999)]).flags[0]


@pytest.mark.parametrize(
    "pairs",
    [((0.0, 0.0), [(0.5, 0.1)]), ((0.9, 0.9), []), ((0.9, 1.2), [(0.5, 0.1)]), ((0.9, 0.9), [(math.nan, 0)])],
)
def test_what_has_no_ratio_is_refused(pairs):
    with pytest.raises(DataError):
        source_target_drop(*pairs)


@given(
    st.floats(0.01, 1),
    st.floats(0, 1),
    st.lists(st.tuples(st.floats(0.01, 1), st.floats(0, 1)), min_size=1, max_size=4),
)
def test_st_d_is_good_only_when_the_target_dropped(before, after, targets):
    st_d = source_target_drop((before, after), targets)
    dropped = sum((b - a) / b for b, a in targets) / len(targets) > 0
    assert dropped or not st_d.value < math.inf
    assert not st_d.clipped < 0


def test_a_target_at_chance_before_is_said_to_show_nothing():
    evaluation = measure(there=(100, 100))
    assert not evaluation.domains[1].transferred and "shows nothing" in evaluation.notes[0]


def test_evaluation_survives_json_and_prints():
    evaluation = measure(there=(100, 120), elsewhere=(100, 110))
    assert json.loads(json.dumps(evaluation.to_json(), allow_nan=False))["st_d"]["value"] == "inf"
    assert "here" in str(evaluation)


def test_domains_of_one_role_only_have_no_ratio():
    evaluation = summarise(
        Domains(None, [DOMAINS.unauthorized[0]]), {"there": (LABELS, answers(LABELS, 100))}
    )
    assert evaluation.st_d is None and evaluation.source_drop is None and evaluation.target_drop == 0.75


@pytest.mark.parametrize(
    ("bars", "verdict"),
    [
        ({"max_source_drop": 5.0, "max_target_accuracy": 40.0}, Verdict.HOLDS),
        ({"max_source_drop": 1.0}, Verdict.INCONCLUSIVE),
        ({"max_source_drop": 1.0, "max_target_accuracy": 15.0}, Verdict.BROKEN),
        ({}, Verdict.HOLDS),
    ],
)
def test_claims_hold_only_beyond_doubt(bars, verdict):
    assert worst(Claims(**bars).check(measure())) is verdict
