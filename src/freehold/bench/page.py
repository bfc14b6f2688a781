"""Rows as the page of a benchmark shows them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from freehold.bench.account import MATCHES, OWNER, THIEF, Row
from freehold.bench.pictures import heats, learning, pareto, pareto_of_marks, radar, radar_of_marks
from freehold.bench.runner import Summary
from freehold.bench.suite import Suite
from freehold.bench.tables import groups, matrices
from freehold.report.numbers import count, fixed, percent
from freehold.report.suite import Anchor, Group, SuitePage

NOTES = (
    "Base models and protected models are shared by all cells of a seed; a seed changes the initial "
    "weights, the protection and the attack together.",
    "An attacker of a closed domain learns from its validation images, which no method trains on; its "
    "test images are what is reported.",
    "The secrets of the benchmark's keys are public, so that anybody can repeat it: its commitments prove "
    "nothing.",
    "An asterisk marks a mean over fewer seeds than the suite asks for.",
)


def page(suite: Suite, found: Summary, counted: Sequence[Row]) -> SuitePage:
    """Everything on the page.

    Args:
        suite: what was asked for.
        found: what there is.
        counted: its rows.
    """
    counts = found.counts()
    shown = [_group(name, rows) for name, rows in groups(counted).items()]
    made = [dict(outcome.made) for outcome in found.outcomes.values()]
    return SuitePage(
        title=suite.title,
        summary=_summary(suite, counted, counts),
        counts=counts,
        groups=shown,
        heats=heats(counted),
        anchors=_anchors(counted, found),
        failures=sorted(
            {f"{p.pair}, {p.method}, {p.trial or 'no attack'}: {e}" for p, e in found.failures()}
        ),
        versions=_versions(made),
        notes=[*NOTES, *_shortened(suite)],
    )


def _summary(suite: Suite, counted: Sequence[Row], counts: Mapping[str, int]) -> list[str]:
    methods = dict.fromkeys(row.method for row in counted if row.kind)
    trials = dict.fromkeys(row.trial for row in counted if row.trial)
    pairs = dict.fromkeys(row.pair for row in counted)
    text = (
        f"{len(methods)} methods on {len(pairs)} {_plural('pair', pairs)} of domains under {len(trials)} "
        f"{_plural('trial', trials)}, {len(suite.seeds)} {_plural('seed', suite.seeds)}: "
        f"{count(sum(counts.values()))} cells, {count(counts['done'])} done."
    )
    unfinished = [f"{count(counts[state])} {state}" for state in ("failed", "missing") if counts[state]]
    return [text, *([f"{' and '.join(unfinished)}: shown as such."] if unfinished else [])]


def _plural(word: str, things: Sequence[Any] | Mapping[Any, Any]) -> str:
    return word if len(things) == 1 else f"{word}s"


def _shortened(suite: Suite) -> list[str]:
    found = []
    for block in suite.block:
        for what, limits in (("method", block.methods_at_most), ("attack", block.attacks_at_most)):
            if limits:
                told = ", ".join(f"{key} {value:g}" for key, value in limits.items())
                found.append(f"Block {block.name} holds every {what} to at most {told}: it is shortened.")
    return found


def _versions(made: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Every version and device that results were made with."""
    found: dict[str, dict[str, None]] = {}
    for one in made:
        for name, version in {**one.get("versions", {}), "device": one.get("device", "")}.items():
            found.setdefault(name, {})[str(version)] = None
    found.pop("machine", None)
    return {name: ", ".join(values) for name, values in found.items()}


def _group(name: tuple[str, str, str], rows: Sequence[Row]) -> Group:
    block, pair, model = name
    return Group(
        title=f"{pair}, {model} ({block})",
        matrices=matrices(rows),
        paretos=[p for p in (pareto(rows), pareto_of_marks(rows)) if p.spots],
        radars=[r for r in (radar(rows), radar_of_marks(rows)) if len(r.axes) >= 3 and r.series],
        learning=learning(pair, rows),
    )


def _anchors(rows: Sequence[Row], found: Summary) -> list[Anchor]:
    """Published figures of methods and attacks that the suite has, with ours of every pair beside them."""
    trials = {(p.block, p.pair, p.model, p.method, p.trial): p.cell for p in found.plans}
    listed = tomllib.loads((files("freehold.bench") / "anchors.toml").read_text(encoding="utf-8"))["anchor"]
    shown = []
    for anchor in listed:
        ours = []
        for row in rows:
            cell = trials[row.block, row.pair, row.model, row.method, row.trial]
            method, trial = cell.config.get("method"), cell.trial
            fields = anchor.get("fields", {})
            same = trial["kind"] in ("none", "attack") and trial["name"] == anchor["attack"]
            if method is None or method["name"] != anchor["method"] or not same:
                continue
            if trial["data"] == "authorized" and all(trial["fields"].get(k) == v for k, v in fields.items()):
                place = ", ".join(filter(None, (row.pair, row.model, row.method, row.trial)))
                ours.append(f"{_ours(row)} ({place})")
        if ours:
            attack = " ".join(filter(None, [anchor["attack"], *map(str, anchor.get("fields", {}).values())]))
            what = f"{anchor['method']}, {attack or 'no attack'}"
            shown.append(
                Anchor(what, anchor["published"], "; ".join(ours), anchor["setting"], anchor["source"])
            )
    return shown


def _ours(row: Row) -> str:
    if not row.states["done"]:
        return "missing"
    if row.kind == "ownership":
        labels = {MATCHES: "match", OWNER: "accuracy"}
        return ", ".join(
            f"{label} {percent(row.figures[n].mean)}" for n, label in labels.items() if n in row.figures
        )
    return " / ".join(
        fixed(100 * row.figures[name].mean, 1) for name in (OWNER, THIEF) if name in row.figures
    )
