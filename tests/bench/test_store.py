"""Results: written once and whole, foreign files named, ten thousand of them read quickly."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from freehold.bench import Cell, Outcome, Store
from freehold.errors import ArtifactError, OutputError

CONFIG = {
    "seed": 0, "data": {"authorized": {"uri": "digits"}, "unauthorized": []}, "model": {"uri": "convnet"},
    "train": {"threads": 1, "device": "cpu"},
}  # fmt: skip


def outcome(seed: int = 0, status: str = "done") -> Outcome:
    cell = Cell({**CONFIG, "seed": seed}, {"kind": "none"})
    return Outcome(cell, status, {"accuracy": seed / 7} if status == "done" else None, "", {"seconds": 1.0})


def test_what_was_written_comes_back(tmp_path):
    store = Store(tmp_path / "r")
    for number, status in enumerate(("done", "inapplicable", "failed")):
        store.write(outcome(number, status))
    found = store.outcomes()
    assert sorted(o.status for o in found.values()) == ["done", "failed", "inapplicable"]
    assert {n: o.digest for n, o in found.items()} == {
        outcome(i, s).cell.name: outcome(i, s).digest
        for i, s in enumerate(("done", "inapplicable", "failed"))
    }


def test_a_finished_cell_is_never_written_over_and_a_failed_one_is(tmp_path):
    store = Store(tmp_path)
    store.write(outcome(status="failed"))
    store.write(outcome(status="failed"))
    store.write(outcome())
    assert [o.status for o in store.outcomes().values()] == ["done"] and not list(
        (tmp_path / "failed").iterdir()
    )
    with pytest.raises(OutputError, match="its result already"):
        store.write(outcome())


@pytest.mark.parametrize("fault", ["truncated", "foreign", "altered", "renamed", "empty", "list", "binary"])
def test_a_file_that_is_no_result_is_named_and_nothing_is_lost(tmp_path, fault):
    store = Store(tmp_path)
    store.write(outcome(1))
    store.write(outcome(2))
    path = tmp_path / "cells" / f"{outcome(1).cell.name}.json"
    text = path.read_text()
    if fault == "renamed":
        path = path.rename(path.with_name("0" * 32 + ".json"))
    else:
        path.write_bytes({
            "truncated": text[: len(text) // 2].encode(), "foreign": b'{"name": "x"}', "empty": b"",
            "list": b"[1]", "binary": b"\xff\xfe\x00",
            "altered": text.replace('"accuracy": 0.14', '"accuracy": 0.94').encode(),
        }[fault])  # fmt: skip
    before = {p: p.read_bytes() for p in (tmp_path / "cells").iterdir()}
    with pytest.raises(ArtifactError, match=path.name):
        store.outcomes()
    assert {p: p.read_bytes() for p in (tmp_path / "cells").iterdir()} == before
    path.unlink()
    assert list(store.outcomes()) == [outcome(2).cell.name]


def test_what_a_killed_writer_left_is_no_result(tmp_path):
    store = Store(tmp_path)
    store.write(outcome())
    (tmp_path / "cells" / f"{'0' * 32}.json.tmp").write_text("{")
    assert len(store.outcomes()) == 1


def test_two_drivers_are_refused(tmp_path):
    store = Store(tmp_path / "r")
    with (
        store.driving(),
        pytest.raises(OutputError, match="another process writes"),
        Store(tmp_path / "r").driving(),
    ):
        pass
    with store.driving():
        pass
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="no folder"), Store(tmp_path / "file").driving():
        pass


def test_ten_thousand_results_are_listed_in_less_than_two_seconds(tmp_path):
    folder = tmp_path / "cells"
    folder.mkdir()
    # As large as a real result.
    padding = {"evaluation": [{"name": "digits", "value": i / 3, "low": 0.0, "high": 1.0} for i in range(24)]}
    for seed in range(10_000):
        one = outcome(seed)
        one.result.update(padding)
        (folder / f"{one.cell.name}.json").write_bytes(one.to_bytes())
    assert 2500 < len(one.to_bytes()) < 4000
    began = time.process_time()
    found = Store(tmp_path).outcomes()
    assert time.process_time() - began < 2 and len(found) == 10_000
    shutil.rmtree(folder)


def test_results_are_json_that_others_can_read(ran):
    folder, _ = ran
    for path in Path(folder / "results" / "cells").iterdir():
        data = json.loads(path.read_text())
        assert data["name"] == path.stem and {"cell", "status", "result", "made", "sha256"} <= set(data)
