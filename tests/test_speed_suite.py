"""The speed suite's own logic: fits, ratios, and what counts as a regression."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.speed import __main__ as main
from benchmarks.speed import ratio as ratio_module
from benchmarks.speed import regression
from benchmarks.speed.figures import Figure
from benchmarks.speed.growth import Growth, exponent
from benchmarks.speed.measures import Here, peak_bytes
from benchmarks.speed.page import render
from benchmarks.speed.ratio import Ratio
from benchmarks.speed.regression import BadRecord, committed, complaints, measured, record
from benchmarks.speed.steps import CASES
from freehold.plugin import BUILTIN, find
from freehold.protection import Protection


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_law_is_its_power(power: float) -> None:
    assert exponent([(n, 3e-4 * n**power) for n in (10, 20, 40, 80)]) == pytest.approx(power)


def test_a_constant_part_of_the_cost_only_lowers_the_exponent() -> None:
    assert exponent([(n, 0.1 + 0.01 * n) for n in (10, 100, 1000)]) < 1


def test_growth_measures_every_size() -> None:
    calls: list[int] = []
    (found,) = Growth("g", (1, 2, 4), lambda n: lambda: calls.append(sum(range(10_000 * n)))).measure(True)
    assert [size for size, _ in found.points] == [1, 2, 4]
    assert len(calls) == 4  # one more of the first, which is thrown away


def test_a_call_that_does_the_floor_three_times_has_ratio_three(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10**9))
    monkeypatch.setattr(ratio_module, "repeated", lambda times: lambda call: call() + 0 * next(clock))
    subject = Ratio("r", lambda: (Here(lambda: 0.6), Here(lambda: 0.2)), bar=2.0)
    (found,) = subject.measure(quick=True)
    assert found.value == pytest.approx(3)
    assert not found.holds


def test_peak_memory_is_counted_exactly_and_alike_every_time() -> None:
    def call() -> None:
        first = torch.empty(1000)
        second = first + 1
        del first, second
        torch.empty(1500)

    once, again = peak_bytes(call), peak_bytes(call)
    assert once == again
    assert 8000 <= once < 8064  # two tensors at a time, and the number that is added


BEFORE = Figure("a", 1.0)


@pytest.mark.parametrize(
    ("now", "worse"),
    [
        (replace(BEFORE, value=1.14), False),
        (replace(BEFORE, value=1.16), True),
        (replace(BEFORE, value=0.5), False),
        (replace(BEFORE, value=0.9, at_least=True), False),
        (replace(BEFORE, value=0.86, at_least=True), True),
        (replace(BEFORE, value=1.16, kind="memory"), True),
        (replace(BEFORE, value=9.0, kind="amount"), False),
        (replace(BEFORE, value=9.0, name="new"), False),
    ],
)
def test_only_a_ratio_that_got_15_percent_worse_is_a_regression(now: Figure, worse: bool) -> None:
    assert [c.partition(":")[0] for c in complaints([now], {"a": 1.0})] == (["a"] if worse else [])


def test_a_missed_bar_is_named() -> None:
    (sentence,) = complaints([Figure("slow", 2.5, bar=2.1)], {})
    assert "slow" in sentence
    assert "2.1" in sentence


class Moody:
    """Slow the first time."""

    def __init__(self, *values: float) -> None:
        self.values = iter(values)

    def measure(self, quick: bool) -> list[Figure]:
        return [Figure("a", next(self.values), bar=2.0)]


@pytest.mark.parametrize(("values", "kept"), [((1.0,), 1.0), ((3.0, 1.0), 1.0), ((3.0, 2.5), 2.5)])
def test_what_is_bad_is_measured_once_more(values: tuple[float, ...], kept: float) -> None:
    (found,) = measured(Moody(*values), {}, quick=True)
    assert found.value == kept


def test_a_record_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "speed.json"
    path.write_text(record({"Steps": [Figure("a", 1.23456, bar=2.0)]}, {"torch": "2"}))
    assert committed(path) == {"a": 1.235}
    assert committed(tmp_path / "none.json") == {}


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"groups": {"Steps": [{"name": "a"}]}})])
def test_a_damaged_record_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "speed.json"
    path.write_text(text)
    with pytest.raises(BadRecord, match="--accept"):
        committed(path)


def test_the_page_names_every_figure_and_loads_nothing() -> None:
    groups = {
        "Steps": [Figure("a <b>", 1.2, bar=2.0, spread=(1.1, 1.3)), Figure("missed", 3.0, bar=2.0)],
        "Growth": [Figure("grown", 1.01, bar=1.1, kind="exponent", points=((1, 0.1), (10, 1.0), (100, 9.9)))],
    }
    html = render(groups, {"torch": "2"}, {"a <b>": 1.1})
    assert "a &lt;b&gt;" in html
    assert html.count("<svg") == 3  # ratios for a desk and a phone, and one panel
    assert "missed" in html
    assert "http" not in html.replace("http-equiv", "")


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command on one figure, in a folder of its own."""
    monkeypatch.setattr(regression, "COMMITTED", tmp_path / "committed" / "speed.json")

    def run(*values: float, accept: bool = False) -> int:
        moody = Moody(*values)
        monkeypatch.setattr(main, "suite", lambda: {"Steps": lambda: [moody]})
        given = {"quick": False, "only": None, "accept": accept, "out": tmp_path / "out"}
        return main.ran(argparse.Namespace(**given))

    return run


def test_the_command_fails_on_a_regression_and_leaves_what_was_committed(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(1.0, accept=True) == 0
    before = (tmp_path / "committed" / "speed.json").read_bytes()
    assert command(1.1) == 0
    assert command(1.2, 1.1) == 0
    assert command(1.2, 1.2) == 1
    assert "a: 1.2 is more than 15 % worse than the committed 1" in capsys.readouterr().out
    assert (tmp_path / "committed" / "speed.json").read_bytes() == before
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"speed.json", "speed.html"}


def test_the_command_refuses_a_damaged_record(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "committed").mkdir()
    (tmp_path / "committed" / "speed.json").write_text("{")
    assert command(1.0) == 1
    assert "--accept" in capsys.readouterr().err


def test_every_method_has_a_step_in_the_suite() -> None:
    covered = {method().name for _, method, *_ in CASES}
    assert covered == {name for name in BUILTIN if issubclass(find(name), Protection)}
