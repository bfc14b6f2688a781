"""The page of a trace: every customer, what chance gives, who is named, and nothing that runs."""

from __future__ import annotations

import re

import pytest

from freehold.errors import DataError
from freehold.report.trace import Copy, Group, TracePage
from freehold.report.trace_page import render_trace
from freehold.statistics import binomial_masses

NAMES = ["Orchid <b>AG</b>", *(f"customer {number:02}" for number in range(30))]


def group(named: int = 40, trials: int = 60, **changes: object) -> Group:
    matches = [named, *([6] * (len(NAMES) - 1))]
    copies = [Copy(name, m, 0.5, 1.0, "no match") for name, m in zip(NAMES, matches, strict=True)]
    fields = {"trials": trials, "rate": 0.1, "masses": binomial_masses(trials, 0.1), "needed": 23}
    return Group(**{**fields, "copies": copies, **changes})


def page(*groups: Group, customer: str = NAMES[0], **changes: object) -> str:
    fields = {
        "title": "thief: x", "summary": ["So."], "decision": "Match", "customer": customer,
        "groups": groups or [group()], "alpha": 1e-6, "queries": 1800, **changes,
    }  # fmt: skip
    return render_trace(TracePage(**fields))


def test_every_customer_stands_there_once_and_the_named_one_is_marked():
    html = page()
    assert all(html.count(f">{name}</th>") == 1 for name in NAMES[1:])
    assert '<th scope="row" class="authorized">Orchid &lt;b&gt;AG&lt;/b&gt;</th>' in html
    assert "among 31 customers" in html and "25 customers with fewer" in html and "<b>AG" not in html
    assert "40 of 60" in html and "a name from 23" in html and "1,800 images" in html
    assert not re.search(r"<script|src=|href=.http|@import", html)
    assert html == page()


def test_nobody_is_named_and_nothing_is_drawn_as_if():
    html = page(group(named=7, needed=None), customer="", decision="No match", left_out=["X: not asked."])
    assert 'class="authorized"' not in html and "a name from" not in html and "X: not asked." in html


def test_copies_of_several_kinds_have_a_drawing_each():
    html = page(group(), group(trials=100, masses=binomial_masses(100, 0.1)))
    assert html.count("Copies with") == 2 and "among 62 customers" in html


def test_a_group_that_makes_no_sense_is_refused():
    with pytest.raises(DataError):
        group(copies=[])
    with pytest.raises(DataError):
        group(masses=[1.0])
