"""The verb: runs, goes on, tells what is missing, writes the report, and says what is wrong in one line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from bench_kit import TINY, place

from freehold.artifacts import as_toml
from freehold.bench import Store, plan
from freehold.bench.suite import Suite
from freehold.cli.app import main

TINIER = {**TINY, "seeds": [0], "block": [{**TINY["block"][1], "forgeries": []}]}


@pytest.fixture
def suite(tmp_path, ran, monkeypatch) -> Path:
    """The file of a suite whose models are made already."""
    path = tmp_path / "tiny.toml"
    block = "[[block]]\n" + as_toml(TINIER["block"][0])
    path.write_text(as_toml({k: v for k, v in TINIER.items() if k != "block"}) + block)
    monkeypatch.setattr("freehold.bench.stages.Place.default", classmethod(lambda *a: place(ran[0])))
    return path


def ended(capsys, *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([str(a) for a in arguments])
    return code, *capsys.readouterr()


@pytest.mark.slow
def test_run_status_report(suite, tmp_path, capsys):
    where = ("--results", tmp_path / "r")
    cells = len(plan(Suite.model_validate(TINIER)))
    code, out, _ = ended(capsys, "bench", "status", suite, *where, "--json")
    assert code == 0 and json.loads(out)["cells"]["missing"] == cells
    code, out, _ = ended(capsys, "bench", "run", suite, *where, "--json")
    assert code == 0 and json.loads(out)["cells"]["done"] == json.loads(out)["computed"] == cells
    code, out, _ = ended(capsys, "bench", "run", suite, *where)
    assert code == 0 and f"{cells} done" in out
    code, out, _ = ended(capsys, "bench", "report", suite, *where, "--out", tmp_path / "page", "--json")
    assert code == 0 and all(Path(path).stat().st_size for path in json.loads(out).values())
    code, out, _ = ended(capsys, "bench", "list")
    assert code == 0 and "quick" in out and "paper" in out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("run", "quik"), 66, "did you mean 'quick'"),
        (("run", "quick", "--address", "a:1"), 64, "belongs to --runner ray"),
        (("run", "quick", "--workers", "2"), 64, "belongs to --runner ray"),
        (("run", "quick", "--runner", "ray", "--address", "127.0.0.1:9"), 64, "nothing answers"),
        (("status", "none.toml"), 66, "cannot be read"),
    ],
)
def test_wrong_use_is_one_line(capsys, tmp_path, arguments, code, said):
    folder = ("--results", tmp_path / "r")
    found, _, err = ended(capsys, "bench", *arguments, *folder)
    assert found == code and said in err and err.count("\n") == 1
    assert not Store(tmp_path / "r").outcomes()


def test_without_ray_it_says_what_to_install(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, err = ended(capsys, "bench", "run", "quick", "--runner", "ray", "--results", tmp_path)
    assert code == 69 and "pip install 'freehold[ray]'" in err


def test_a_failed_cell_is_told_and_gives_1(capsys, suite, tmp_path, monkeypatch):
    monkeypatch.setattr("freehold.attacks.quantize.rounded", lambda *a: 1 / 0)
    code, out, err = ended(capsys, "bench", "run", suite, "--results", tmp_path / "r")
    assert code == 1 and "1 failed" in out and "ZeroDivisionError" in out and "Traceback" not in out + err


def test_ctrl_c_ends_with_130(capsys, suite, tmp_path, monkeypatch):
    def interrupted(cell, place):
        raise KeyboardInterrupt

    monkeypatch.setattr("freehold.bench.measure.attempt", interrupted)
    code, _, err = ended(capsys, "bench", "run", suite, "--results", tmp_path / "r")
    assert code == 130 and "goes on" in err
