"""A suite that asks for what does not exist is refused before any work, with the nearest name."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench_kit import TINY, changed, tiny
from pydantic import ValidationError

from freehold.attacks.base import Attack
from freehold.bench import Suite, load_suite, plan, shipped
from freehold.errors import ConfigError, MissingInputError
from freehold.plugin import find, names
from freehold.protection import Protection


def written(tmp_path, text: str):
    path = tmp_path / "suite.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("block", "changes", "said"),
    [
        (0, {"methods": ["mapp"]}, r"methods: unknown: 'mapp' \(did you mean 'map'\?\)"),
        (0, {"methods": ["prune"]}, "methods: unknown: 'prune'"),
        (0, {"methods": [{"name": "map", "stepz": 3}]}, r"map\.stepz: unknown key \(did you mean 'steps'"),
        (0, {"methods": [{"name": "map", "steps": 0}]}, "steps"),
        (0, {"methods": ["map", {"name": "map", "steps": 3}]}, "two entries are called 'map'"),
        (0, {"attacks": [{"name": "all", "data": "unauthorized"}]}, "a group is named alone"),
        (0, {"attacks": ["prun"]}, r"attacks: unknown: 'prun' \(did you mean 'prune'\?\)"),
        (0, {"attacks": [{"name": "prune", "shar": 0.1}]}, r"did you mean 'share'"),
        (
            0,
            {"attacks_at_most": {"epoch": 3}},
            r"attacks_at_most\.epoch: unknown key \(did you mean 'epochs'",
        ),
        (1, {"attacks": ["adapt"]}, "adapt: needs an unauthorized domain"),
        (0, {"pairs": [{"authorized": "digit"}]}, r"unknown domain 'digit' \(did you mean 'digits'"),
        (0, {"pairs": [{"authorized": "npz:"}]}, "unknown domain"),
        (0, {"pairs": [{"authorized": "digits | rotat=3"}]}, "did you mean 'rotate'"),
        (0, {"curves": {"sizes": [8, 4]}}, "ascending"),
        (0, {"curves": {"sizes": [4, 8], "attackers": ["regro"]}}, "did you mean 'regrow'"),
        (0, {"curves": {"sizes": [4, 8], "budget": "equall"}}, "did you mean 'equal'"),
        (1, {"forgeries": ["closed forms"]}, "did you mean 'closed form'"),
        (0, {"train": {"threads": "auto"}}, "equal cells"),
        (0, {"train": {"epoch": 1}}, "epoch"),
        (0, {"data": {"authorized": "digits"}}, "domains stand in pairs"),
    ],
)
def test_what_does_not_exist_is_named_with_the_nearest(block, changes, said):
    with pytest.raises(ConfigError, match=said):
        plan(Suite.model_validate(changed(block, **changes)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title = ", "no valid TOML"),
        ("title = 'x'", "block: field required"),
        ("title = 'x'\n[[block]]\nname = 'a'\nmethod = ['map']\npairs = []", "did you mean 'methods'"),
        ("titel = 'x'", "did you mean 'title'|title: field required"),
    ],
)
def test_a_file_that_is_no_suite(tmp_path, text, said):
    with pytest.raises(ConfigError, match=said):
        load_suite(written(tmp_path, text))


def test_a_suite_that_is_not_there(tmp_path):
    with pytest.raises(MissingInputError, match="did you mean 'quick'"):
        load_suite("quik")
    with pytest.raises(MissingInputError, match="cannot be read"):
        load_suite(tmp_path / "none.toml")


def test_seeds_and_blocks_are_different():
    for broken in ({"seeds": [1, 1]}, {"seeds": [-1]}, {"block": [TINY["block"][0]] * 2}):
        with pytest.raises((ConfigError, ValidationError)):
            tiny(**broken)


def test_a_cells_name_depends_on_what_is_computed_and_on_nothing_else():
    plans = plan(tiny())
    assert len({p.cell.name for p in plans}) == len(plans)
    assert [p.cell.name for p in plan(tiny(title="Other"))] == [p.cell.name for p in plans]
    where = tiny(train={**TINY["train"], "checkpoint_seconds": 3.0}, data={**TINY["data"], "root": "/x"})
    assert [p.cell.name for p in plan(where)] == [p.cell.name for p in plans]
    other = tiny(data={**TINY["data"], "limit": 41})
    assert not {p.cell.name for p in plan(other)} & {p.cell.name for p in plans}


def test_groups_bring_every_registered_plug_in_and_what_is_named_takes_its_place():
    suite = changed(
        0,
        methods=["authorization", {"name": "map", "steps": 7}, {"name": "map", "label": "other", "steps": 9}],
        attacks=["all", "strong"],
        attacks_at_most={"epochs": 2},
        curves=None,
    )
    plans = [p for p in plan(Suite.model_validate(suite)) if p.block == "bound"]
    bound = {name for name in names() if find(name).kind == "authorization"}
    assert {p.method for p in plans} == bound | {"other"}
    maps = [p for p in plans if p.cell.config["method"]["name"] == "map"]
    steps = {p.method: p.cell.config["method"]["steps"] for p in maps}
    assert steps == {"map": 7, "other": 9}
    attacks = {name for name in names() if issubclass(find(name), Attack)}
    assert {p.trial for p in plans} >= {"", *attacks, "prune, strong"}
    assert all(p.cell.trial["fields"].get("epochs", 0) <= 2 for p in plans)


@pytest.mark.parametrize("name", sorted(shipped()))
def test_shipped_suites_are_whole(name):
    plans = plan(load_suite(name))
    assert plans and load_suite(name).title


def test_the_suite_in_the_docs_is_one(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "benchmark.md").read_text()
    example = text.split("```toml\n")[1].split("```")[0]
    plans = plan(load_suite(written(tmp_path, example)))
    assert {p.method for p in plans} >= {"map", "NTL, paper"}
    assert {p.trial for p in plans} >= {"prune", "fine-tune", "on the target", "curve: regrow"}


def test_quick_has_every_method_under_every_attack():
    """But for attacks on a closed domain, where there is none."""
    plans = plan(load_suite("quick"))
    for name in names():
        kind = find(name)
        if issubclass(kind, Protection):
            tried = {p.cell.trial["name"] for p in plans if p.cell.config["method"]["name"] == name}
            attacks = [find(a) for a in names() if issubclass(find(a), Attack)]
            wanted = {a.name for a in attacks if kind.kind == "authorization" or a.prey == "authorized"}
            assert tried == {"", *wanted}, name
    assert {p.seed for p in plans} == {0, 1, 2}
