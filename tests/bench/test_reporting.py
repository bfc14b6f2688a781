"""Page and tables hold what the results say, and show what is missing as missing."""

from __future__ import annotations

import csv
from html.parser import HTMLParser

import pytest
from bench_kit import tiny

from freehold.bench import plan
from freehold.bench.account import OWNER, THIEF, Figure, rows
from freehold.bench.reporting import write_report
from freehold.report.suite import Entry, Matrix, Spot
from freehold.report.suite_figures import frontier
from freehold.statistics import mean_interval


@pytest.fixture(scope="module")
def written(ran, tmp_path_factory) -> dict[str, str]:
    folder, _ = ran
    out = tmp_path_factory.mktemp("report")
    return {what: path.read_text() for what, path in write_report(tiny(), folder / "results", out).items()}


def test_rows_are_means_over_seeds(ran):
    _, found = ran
    row = next(r for r in rows(found) if (r.method, r.trial) == ("map", "prune"))
    values = [
        found.outcomes[p.cell.name].result["evaluation"]["domains"][1]["after"]["value"]
        for p in found.plans
        if (p.method, p.trial) == ("map", "prune")
    ]
    mean, interval = mean_interval(values)
    assert row.figures[THIEF] == Figure(mean, *interval, tuple(values)) and row.seeds == 2
    assert set(row.figures) >= {OWNER, THIEF, "source drop"}


def test_every_cell_is_a_line_of_the_csv(ran, written):
    lines = list(csv.DictReader(written["cells"].splitlines()))
    assert [line["cell"] for line in lines] == [p.cell.name for p in plan(tiny())]
    assert {line["state"] for line in lines} == {"done", "inapplicable"}
    table = list(csv.DictReader(written["table"].splitlines()))
    assert any(t["figure"] == THIEF and t["trial"] == "tuned" and float(t["mean"]) >= 0 for t in table)


def test_tables_name_methods_attacks_and_what_does_not_apply(written):
    for text in (written["markdown"], written["latex"], written["page"]):
        for name in (
            "map",
            "trigger-set",
            "prune",
            "tuned",
            "quantize",
            "no attack",
            "labels after the fact",
        ):
            assert name in text
    assert "does not apply" in written["markdown"]
    assert written["latex"].count(r"\begin{tabular}") == written["latex"].count(r"\end{tabular}") == 4
    assert "%" not in written["latex"].replace(r"\%", "").partition("\n")[2]


def test_the_page_is_whole_and_loads_nothing(written):
    class Reader(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open, self.loaded, self.ids = [], [], []

        def handle_starttag(self, tag, attrs):
            self.loaded += [v for k, v in attrs if k in ("src", "href") and not v.startswith(("#", "data:"))]
            self.ids += [v for k, v in attrs if k == "id"]
            if tag not in ("meta", "link", "br", "path", "use"):
                self.open.append(tag)

        def handle_startendtag(self, tag, attrs):
            pass

        def handle_endtag(self, tag):
            if tag in self.open:
                while self.open.pop() != tag:
                    pass

    reader = Reader()
    reader.feed(written["page"])
    assert not reader.loaded and len(reader.ids) == len(set(reader.ids)) and "<script" not in written["page"]
    assert "What owners pay against what thieves keep" in written["page"]
    assert "Accuracy against labelled images" in written["page"]


def test_missing_cells_are_shown_as_missing(ran, tmp_path):
    folder, _ = ran
    nothing = write_report(tiny(), tmp_path / "none", tmp_path / "a")
    assert nothing["markdown"].read_text().count("missing") >= 5
    partly = write_report(tiny(seeds=[0, 1, 2]), folder / "results", tmp_path / "b")
    assert "*" in partly["markdown"].read_text() and "missing" in partly["cells"].read_text()
    assert "An asterisk" in partly["page"].read_text()


def test_published_figures_stand_beside_ours_with_their_source(ran, tmp_path):
    suite = tiny(block=[{
        "name": "a", "methods": ["ntl"], "pairs": [{"authorized": "digits-m", "unauthorized": "digits"}],
        "attacks": ["transntl"],
    }])  # fmt: skip
    page = write_report(suite, tmp_path / "none", tmp_path)["page"].read_text()
    assert "79.8 / 27.2" in page and "poster of JailNTL, CVPR 2025" in page and "missing (digits-m" in page


def test_the_frontier_is_what_no_other_beats_in_both():
    spots = [Spot(n, pays, 0.1, worst, "a") for n, pays, worst in
             [("a", 0, 0.9), ("b", 1, 0.5), ("c", 1.5, 0.6), ("d", 2, 0.2), ("e", 2, 0.3)]]  # fmt: skip
    assert [s.name for s in frontier(spots)] == ["a", "b", "d"]


def test_a_table_of_unequal_rows_is_refused():
    with pytest.raises(Exception, match="1 entries for 2 columns"):
        Matrix("t", "c", "x", ["a", "b"], [("row", [Entry("1")])])
