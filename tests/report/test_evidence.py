"""Verdicts on a page: chance in words and pictures, never rarer or surer than it is."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_page import make_page

from freehold.errors import DataError
from freehold.report import Evidence, Part, chance, render_page
from freehold.report.numbers import odds, small
from freehold.statistics import binomial_masses, matches_needed

RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻−", "0123456789--")


def read(text: str) -> float:
    """The number that :func:`small` wrote."""
    factor, times, power = text.replace("\u00a0", " ").partition(" × ")
    if not times:
        factor, power = ("1", factor) if factor.startswith("10⁻") else (factor, "")
    return float(factor) * (10.0 ** int(power[2:].translate(RAISED)) if power else 1)


def frequency(text: str) -> float:
    """What :func:`odds` says, as a probability."""
    if found := re.search(r"10([⁰¹²³⁴⁵⁶⁷⁸⁹]+)", text):
        return 10.0 ** -int(found[1].translate(RAISED))
    if found := re.search(r"in about (\d+) of 100", text):
        return int(found[1]) / 100
    scale = {"million": 1e6, "billion": 1e9, "trillion": 1e12}
    number, word = re.search(r"once in ([\d.,]+) (\w+)", text).groups()
    return 1 / (float(number.replace(",", "")) * scale.get(word, 1))


@given(st.floats(-300, -0.005).map(lambda e: 10.0**e))
def test_rarity_is_never_exaggerated(p):
    assert p * (1 - 1e-6) <= frequency(odds(p)) or p > 0.99
    assert p * (1 - 1e-6) <= read(small(p)) <= p * 1.11 + 1e-4


def test_odds_and_small_numbers_read_well():
    assert odds(1e-6) == "about once in 1 million cases" and odds(0.3) == "in about 30 of 100 cases"
    assert odds(0.004) == "about once in 250 cases" and odds(3e-58) == "less than once in 10⁵⁷ cases"
    assert odds(1) == "in all cases" and odds(4.1e-9) == "about once in 240 million cases"
    assert small(1e-6) == "10⁻⁶" and small(3.14e-23) == "3.2\u00a0×\u00a010⁻²³"
    assert small(1) == "1" and small(0.1982) == "0.2"


def evidence(matches: int = 90, trials: int = 100, rate: float = 0.1, **changes: object) -> Evidence:
    fields = {
        "suspect": "thief", "decision": "MATCH", "reason": "so", "matches": matches, "trials": trials,
        "rate": rate, "masses": binomial_masses(trials, rate) if trials else (),
        "needed": matches_needed(trials, rate, 1e-6), "p_value": 1e-70, "p_adjusted": 1e-69, "alpha": 1e-6,
        "low": 0.8, "high": 0.95, "null": "exact", "why": "Binomial", "access": "labels", "queries": trials,
        "sequential": False, "committed": True, **changes,
    }  # fmt: skip
    return Evidence(**fields)


@pytest.mark.parametrize("width", [760, 350])
@pytest.mark.parametrize(
    "matches, trials, rate", [(0, 1, 0.5), (90, 100, 0.1), (30, 100, 0.1), (5100, 10_000, 0.5)]
)
def test_every_distribution_can_be_drawn_at_every_width(matches, trials, rate, width):
    svg = chance.distribution(evidence(matches, trials, rate), width=width, key="k")
    assert svg.startswith("<svg") and f'viewBox="0 0 {width} ' in svg and len(svg) < 30_000
    assert f"thief gave {matches} of {trials} secret answers" in svg
    places = [float(x) for x in re.findall(r'<text [^>]*?transform="translate\(([\d.]+)', svg)]
    assert all(0 <= x <= width for x in places)


def test_the_page_of_a_verdict_says_whose_model_it_is():
    shown = evidence(parts=[Part("conv1", 60, 64), Part("<b>", 30, 36)])
    silent = evidence(0, 0, suspect="mute", decision="INCONCLUSIVE", low=0, high=1, p_value=1, p_adjusted=1)
    page = make_page(
        evidence=[shown, silent], commitment="ab" * 32, domains=(), transfer=None, layers=(), learning=()
    )
    html = render_page(page)
    assert "Freehold ownership report" in html and "ab" * 32 in html and "ST-D" not in html
    assert "less than once in 10⁶⁹" in html
    assert "Agreement by part" in html and "&lt;b&gt;" in html and "<b>conv" not in html
    assert "gave no answer that could be counted" in html and "Undecided: so." in html


def test_counts_that_cannot_be_are_refused():
    with pytest.raises(DataError):
        evidence(101, 100)
    with pytest.raises(DataError):
        Part("a", 3, 2)
    assert math.isclose(sum(binomial_masses(50, 0.3)), 1)
