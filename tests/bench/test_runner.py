"""Cells are computed once, equal bit for bit whenever they are; what fails does not stop the rest."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from bench_kit import changed, digests, place, run_suite, tiny

from freehold.attacks.prune import Prune
from freehold.bench import Store, Suite, measure, plan
from freehold.bench.runner import InProcess, look
from freehold.errors import ArtifactError, OutputError

ONE = {"seeds": [0]}


def one_block(number: int, **changes) -> Suite:
    data = changed(number, **changes)
    return Suite.model_validate({**data, "block": [data["block"][number]], **ONE})


def test_every_cell_has_its_result(ran):
    folder, found = ran
    plans = plan(tiny())
    assert found.computed == len(plans) == len(digests(folder / "results"))
    assert found.counts() == {"done": len(plans) - 2, "inapplicable": 2, "failed": 0, "missing": 0}
    closed = [p for p in plans if p.trial == "closed form"]
    assert all("forges passport" in found.outcomes[p.cell.name].error for p in closed)


def test_what_the_cells_say(ran):
    _, found = ran
    by_trial = {(p.method, p.trial): found.outcomes[p.cell.name].result for p in found.plans if p.seed == 0}
    bound = by_trial["map", ""]
    roles = [d["role"] for d in bound["evaluation"]["domains"]]
    assert roles == ["authorized", "unauthorized"] and bound["verdict"] is None
    assert by_trial["map", "tuned"]["last"] is not None and by_trial["map", "tuned"]["cost"]["steps"] > 0
    assert by_trial["map", "prune"]["cost"] == {"images": 0, "queries": 0, "steps": 0}
    assert by_trial["map", "curve: regrow"]["curve"]["sizes"] == [4, 8]
    assert by_trial["from scratch", "curve: scratch"]["curve"]["attacker"] == "scratch"
    marked = by_trial["trigger-set", ""]
    assert marked["verdict"]["trials"] == marked["unmarked"]["trials"] == 20
    assert by_trial["trigger-set", "labels after the fact"]["forgery"]["published"] is True
    assert by_trial["trigger-set", "labels after the fact"]["forgery"]["accepted"] is False


def test_nothing_is_run_twice(ran, monkeypatch):
    folder, _ = ran
    monkeypatch.setattr(measure, "attempt", lambda cell, place: pytest.fail("run again"))
    again = run_suite(tiny(), folder / "results", place=place(folder), show=False)
    assert again.computed == 0 and again.counts()["missing"] == 0


def test_equal_cells_give_equal_bits_whether_models_are_made_or_found(ran, tmp_path):
    """Base models from the cache of the first run, protected models made anew."""
    folder, _ = ran
    shutil.copytree(folder / "cache", tmp_path / "cache", ignore=shutil.ignore_patterns("protected-*"))
    assert list((tmp_path / "cache").iterdir())
    for number in range(2):
        run_suite(one_block(number, curves=None), tmp_path / "results", place=place(tmp_path), show=False)
    first, again = digests(folder / "results"), digests(tmp_path / "results")
    assert again and all(first[name] == digest for name, digest in again.items())


def test_base_and_protected_models_are_shared(ran):
    folder, _ = ran
    made = sorted(path.name.partition("-")[0] for path in (folder / "cache").iterdir())
    # Two seeds of two base domains and one more of which a forger's claim is about; two methods.
    assert made == ["base"] * 6 + ["protected"] * 4
    assert not list((folder / "cache").glob(".*.partial"))


def test_a_failing_cell_is_recorded_the_rest_go_on_and_it_is_tried_again(tmp_path, monkeypatch):
    suite = one_block(1, forgeries=[], attacks=["quantize", "prune"])
    faults = [MemoryError("no room"), torch.OutOfMemoryError("GPU"), RuntimeError("a bug")]

    def broken(*args):
        raise faults[0]

    for fault in list(faults):
        with monkeypatch.context() as patch:
            patch.setattr(Prune, "_run", broken)
            found = run_suite(suite, tmp_path / "results", place=place(tmp_path), show=False)
        assert found.counts() == {"done": 2, "inapplicable": 0, "failed": 1, "missing": 0}
        ((failed, error),) = found.failures()
        assert failed.trial == "prune" and str(fault) in error
        assert ("out of memory" in error) == (not isinstance(fault, RuntimeError) or "GPU" in error)
        faults.pop(0)
    found = run_suite(suite, tmp_path / "results", place=place(tmp_path), show=False)
    assert found.computed == 1 and found.counts()["done"] == 3
    assert not list((tmp_path / "results" / "failed").iterdir())


def test_missing_data_fails_its_cells_only_and_is_named_once_a_model(tmp_path):
    pairs = [{"authorized": "npz:gone.npz"}, {"authorized": "digits"}]
    suite = one_block(1, forgeries=[], pairs=pairs)
    found = run_suite(suite, tmp_path / "results", place=place(tmp_path), show=False)
    assert found.counts() == {"done": 2, "inapplicable": 0, "failed": 2, "missing": 0}
    assert all("gone.npz" in error and str(tmp_path) in error for _, error in found.failures())


def test_ctrl_c_loses_nothing_that_was_finished(ran, tmp_path):
    folder, _ = ran

    class Interrupted(InProcess):
        def outcomes(self, cells, place):
            for number, outcome in enumerate(super().outcomes(cells, place)):
                if number == 2:
                    raise KeyboardInterrupt
                yield outcome

    suite = one_block(1)
    with pytest.raises(KeyboardInterrupt):
        run_suite(suite, tmp_path, place=place(folder), runner=Interrupted(), show=False)
    kept = digests(tmp_path)
    assert len(kept) == 2
    rest = run_suite(suite, tmp_path, place=place(folder), show=False)
    assert rest.computed == len(plan(suite)) - 2 and not rest.counts()["missing"]
    assert {name: digests(folder / "results")[name] for name in kept} == kept


def test_a_locked_or_damaged_folder_stops_before_any_work(ran, tmp_path, monkeypatch):
    folder, _ = ran
    monkeypatch.setattr(measure, "attempt", lambda cell, place: pytest.fail("worked"))
    with Store(tmp_path).driving(), pytest.raises(OutputError, match="another process"):
        run_suite(tiny(), tmp_path, place=place(folder), show=False)
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "notes.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"notes\.json"):
        run_suite(tiny(), tmp_path, place=place(folder), show=False)


def test_results_of_another_suite_in_the_folder_do_no_harm(ran, tmp_path):
    folder, found = ran
    shutil.copytree(folder / "results", tmp_path / "results")
    part = look(tiny(seeds=[0, 5]), tmp_path / "results")
    assert part.counts()["missing"] == len(plan(tiny(**ONE))) == part.counts()["done"] + 1
    assert replace(found, computed=0).counts() == look(tiny(), tmp_path / "results").counts()
