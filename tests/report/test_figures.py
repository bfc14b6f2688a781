from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from xml.etree import ElementTree

import numpy as np
import pytest
from sample_page import domain

from freehold.report import Curve, Layer, curves, drawing, figures
from freehold.report.contents import by_role


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("text")]


def bars(svg: str) -> list[float]:
    """Widths of the filled rectangles, in order."""
    widths = []
    for path in ElementTree.fromstring(svg).iter("path"):
        if "fill: var(--" in path.get("style", ""):
            x = [float(n) for n in re.findall(r"[ML] ([-\d.]+) ", path.get("d", ""))]
            widths.append(max(x) - min(x))
    return widths


def test_markers_stand_at_the_measured_accuracies() -> None:
    domains = [domain("a", "authorized", 0.9, 0.8), domain("b", "unauthorized", 0.75, 0.25)]
    svg = figures.accuracy(domains, width=612, key="k")  # 600 pixels for 100 %
    found = [float(use.get("x", "")) for use in ElementTree.fromstring(svg).iter("use")]
    assert found == pytest.approx([6 + 600 * share for share in (0.9, 0.8, 0.75, 0.25)], abs=0.01)


def test_accuracy_prints_names_and_values_by_role() -> None:
    domains = by_role([domain("b", "unauthorized", 0.75, 0.25), domain("a", "authorized", 0.9, 0.8)])
    svg = figures.accuracy(domains, width=350, key="k")
    printed = [text.replace("\u00a0", " ") for text in texts(svg)]
    assert printed[:4] == ["AUTHORIZED", "a", "80.0 %", "90.0 % →"]
    assert printed[4:8] == ["UNAUTHORIZED", "b", "25.0 %", "75.0 % →"]


@pytest.mark.parametrize(
    "name", ["$x^2$", r"$\frac{$", "<script>alert(1)</script>", "a&b", "数字", "a\x00b\nc"]
)
def test_names_are_names(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = figures.accuracy([domain(name, "authorized", 0.9, 0.8)], width=760, key="k")
    assert drawing.clean(name) in texts(svg)
    assert drawing.clean(name) in str(ElementTree.fromstring(svg).get("aria-label"))


def test_bars_are_as_long_as_the_shares() -> None:
    layers = [Layer("first", 25, 100), Layer("second", 100, 100), Layer("third", 0, 7)]
    svg = figures.layers(layers, width=400, key="k")
    track, quarter, _, full, *_ = bars(svg)
    assert quarter == pytest.approx(track / 4, abs=0.01)
    assert full == pytest.approx(track, abs=0.01)
    assert texts(svg)[::2] == ["first", "second", "third"]


def test_a_drawing_carries_no_style_that_would_leak_and_only_its_own_ids() -> None:
    domains = [domain("a", "authorized", 0.9, 0.8)]
    one, two = (figures.accuracy(domains, width=350, key=key) for key in ("one", "two"))
    for key, svg in (("one", one), ("two", two)):
        root = ElementTree.fromstring(svg)
        ids = [element.get("id", "") for element in root.iter() if "id" in element.attrib]
        assert ids and len(ids) == len(set(ids)) and all(i.startswith(f"{key}-") for i in ids)
        assert set(re.findall(r"#([\w-]+)", " ".join(re.findall(r'(?:href="|url\()#[\w-]+', svg)))) == set(
            ids
        )
        assert not list(root.iter("style")) and not list(root.iter("metadata"))
    assert one.replace("one-", "two-") != one


def test_text_and_colours_are_the_page_s() -> None:
    svg = figures.layers([Layer("a", 1, 2)], width=350, key="k")
    for element in ElementTree.fromstring(svg).iter():
        style = element.get("style", "")
        assert "DejaVu" not in style
        assert not re.sub(r"var\(--\w+, #[0-9a-f]{6}\)", "", style).count("#")


AWKWARD = {
    "all zero on a log scale": ([0, 1, 2], [0.0, 0.0, 0.0], True),
    "gaps on a log scale": ([0, 1, 2, 3], [1e-3, -1.0, math.nan, 1e4], True),
    "narrow on a log scale": ([0, 1, 2], [0.51, 0.53, 0.52], True),
    "constant": ([0, 10], [0.5, 0.5], False),
    "one point": ([5], [3.2], False),
    "empty": ([], [], False),
    "nothing finite": ([1, 2], [math.nan, math.inf], False),
    "huge": ([0, 10**6], [1e6, 3.3e12], False),
}


@pytest.mark.parametrize("case", AWKWARD)
def test_awkward_curves(case: str) -> None:
    steps, values, log = AWKWARD[case]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = curves.panel(case, [Curve(case, "s", steps, values, log=log)], width=360, key="k")
    assert ("no finite value" in texts(svg)) == (case in ("empty", "nothing finite"))
    assert "nan" not in re.sub(r'aria-label="[^"]*"', "", svg).lower()


def test_a_point_between_gaps_is_marked() -> None:
    curve = Curve("p", "s", [0, 1, 2, 3, 4], [1.0, math.nan, 2.0, math.nan, 3.0])
    assert curves.panel("p", [curve], width=360, key="k").count("<use ") == 3


def test_long_curves_stay_small() -> None:
    values = np.cumsum(np.random.default_rng(0).normal(size=100_000))
    svg = curves.panel("p", [Curve("p", "s", np.arange(100_000), values)], width=360, key="k")
    assert len(svg) < 150_000


def test_neutral_lines_differ() -> None:
    curve = Curve("p", "s", [0], [0.0])
    assert len({curves.line(index, curve) for index in range(8)}) == 8
    assert curves.line(1, Curve("p", "s", [0], [0.0], role="unauthorized"))[0] == "unauthorized"


@pytest.mark.parametrize("text", ["short", "x" * 200, "a" * 60 + " | rotate=30", "数字" * 40])
def test_shorten_fits_and_keeps_both_ends(text: str) -> None:
    with drawing.style("k"):
        cut = drawing.shorten(text, 200, 13)
        assert drawing.extent(cut, 13) <= 200
    assert cut == text or (cut[0] == text[0] and cut[-3:] == text[-3:] and "…" in cut)


def test_settings_of_the_user_neither_matter_nor_change(monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib

    def draw() -> Sequence[str]:
        curve = Curve("p", "s", [0, 1, 2], [1.0, 2.0, 1.5], log=True)
        return [
            figures.accuracy([domain("a", "authorized", 0.9, 0.8)], width=350, key="k"),
            curves.panel("p", [curve], width=360, key="k"),
        ]

    before = draw()
    changes = {"font.size": 30.0, "lines.linewidth": 9.0, "axes.facecolor": "red", "svg.fonttype": "path"}
    with matplotlib.rc_context(changes):
        assert draw() == before
        assert {name: matplotlib.rcParams[name] for name in changes} == changes


def test_whiskers_reach_as_far_as_the_interval() -> None:
    result = domain("a", "authorized", 0.5, 0.5)
    svg = figures.accuracy([result], width=612, key="k")
    ends = [float(x) for x in re.findall(r"M ([\d.]+) [\d.]+ ", svg)]
    for bound in (result.after.low, result.after.high):
        assert any(end == pytest.approx(6 + 600 * bound, abs=0.01) for end in ends)
