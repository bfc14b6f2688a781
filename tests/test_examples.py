"""The examples run as they stand, on their smallest settings."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_example_runs(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [str(path), "4"])
    runpy.run_path(str(path), run_name="__main__")
    assert "digits-m" in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_there_are_examples():
    assert EXAMPLES
