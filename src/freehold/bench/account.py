"""From outcomes to rows: what the seeds of one method under one trial give together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from freehold.bench.plan import Plan
from freehold.bench.runner import Summary
from freehold.bench.store import Outcome
from freehold.statistics import mean_interval

OWNER, THIEF = "authorized accuracy", "unauthorized accuracy"
MATCHES, DROP, ST_D = "matches", "source drop", "ST-D"


class Figure(NamedTuple):
    """Mean over seeds with Student's 95 % interval, which one seed does not give."""

    mean: float
    low: float | None
    high: float | None
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        """From one value a seed."""
        mean, interval = mean_interval(list(values))
        if len(values) == 1:
            return cls(mean, None, None, tuple(values))
        return cls(mean, interval.low, interval.high, tuple(values))


@dataclass(frozen=True)
class Row:
    """One method on one pair and model, under one trial.

    Attributes:
        block: name of the block.
        pair: the domains.
        model: the architecture.
        method: its label.
        kind: ``authorization``, ``ownership``, or empty without a method.
        trial: label of what was done; empty for nothing.
        states: how many seeds are done, inapplicable, failed, missing.
        figures: by name, over the seeds that are done; shares in [0, 1], drops in points.
        decisions: of the owner's key, one a seed.
        forged: accepted as published, accepted by ours; one pair a seed.
        curves: one learning curve a seed.
        cost: means over the seeds: images, queries, steps of the attack; processor seconds of the cell.
        chance: accuracy of guessing.
        rate: chance of a match for who knows nothing of the key.
        before: unauthorized accuracy of the unprotected model, mean over seeds.
        reason: why it is inapplicable or failed, of the first such seed.
    """

    block: str
    pair: str
    model: str
    method: str
    kind: str
    trial: str
    states: Mapping[str, int]
    figures: Mapping[str, Figure] = field(default_factory=dict)
    decisions: tuple[str, ...] = ()
    forged: tuple[tuple[bool | None, bool], ...] = ()
    curves: tuple[Mapping[str, Any], ...] = ()
    reason: str = ""
    cost: Mapping[str, float] = field(default_factory=dict)
    chance: float = 0.0
    rate: float = 0.0
    before: float | None = None

    @property
    def seeds(self) -> int:
        """How many were asked for."""
        return sum(self.states.values())

    @property
    def group(self) -> tuple[str, str, str]:
        """What shares a table."""
        return self.block, self.pair, self.model


def rows(found: Summary) -> list[Row]:
    """One row for each method, pair, model and trial, in the suite's order."""
    groups: dict[tuple[str, ...], list[Plan]] = {}
    for one in found.plans:
        key = (one.block, one.pair, one.model, one.method, one.trial)
        groups.setdefault(key, []).append(one)
    return [_row(plans, found) for plans in groups.values()]


def _row(plans: Sequence[Plan], found: Summary) -> Row:
    first = plans[0]
    outcomes = [found.outcomes[p.cell.name] for p in plans if p.cell.name in found.outcomes]
    states = {state: sum(found.state(p) == state for p in plans) for state in _STATES}
    results = [outcome.result for outcome in outcomes if outcome.result is not None]
    method = first.cell.config.get("method")
    measured = [figures(result) for result in results]
    names = dict.fromkeys(name for one in measured for name in one)
    domains = [d for r in results if "evaluation" in r for d in r["evaluation"]["domains"]]
    closed = [d["before"]["value"] for d in domains if d["role"] == "unauthorized"]
    return Row(
        block=first.block,
        pair=first.pair,
        model=first.model,
        method=first.method,
        kind=_kind(method),
        trial=first.trial,
        states=states,
        figures={name: Figure.of([one[name] for one in measured if name in one]) for name in names},
        decisions=tuple(r["verdict"]["decision"] for r in results if r.get("verdict")),
        forged=tuple(
            (r["forgery"]["published"], r["forgery"]["accepted"]) for r in results if "forgery" in r
        ),
        curves=tuple(r["curve"] for r in results if "curve" in r),
        reason=_reason(outcomes),
        cost=_cost(results, outcomes),
        chance=domains[0]["chance"] if domains else 0.0,
        rate=next((r["verdict"]["rate"] for r in results if r.get("verdict")), 0.0),
        before=sum(closed) / len(closed) if closed else None,
    )


_STATES = ("done", "inapplicable", "failed", "missing")


def figures(result: Mapping[str, Any]) -> dict[str, float]:
    """The figures of one cell that are averaged over seeds."""
    found: dict[str, float] = {}
    for suffix, part in (("", result), (" (last)", result.get("last"))):
        if not part or "evaluation" not in part:
            continue
        evaluation = part["evaluation"]
        by_role: dict[str, list[float]] = {}
        for domain in evaluation["domains"]:
            by_role.setdefault(domain["role"], []).append(domain["after"]["value"])
        for role, name in (("authorized", OWNER), ("unauthorized", THIEF)):
            if role in by_role:
                found[name + suffix] = sum(by_role[role]) / len(by_role[role])
        if evaluation["source_drop"] is not None:
            found[DROP + suffix] = 100 * evaluation["source_drop"]
        ratio = evaluation["st_d"] and evaluation["st_d"]["value"]
        if isinstance(ratio, int | float):  # infinite ones are text
            found[ST_D + suffix] = float(ratio)
        verdict = part.get("verdict")
        if verdict and verdict["trials"]:
            found[MATCHES + suffix] = verdict["matches"] / verdict["trials"]
    return found


def _kind(method: Mapping[str, Any] | None) -> str:
    from freehold.plugin import find

    return find(method["name"]).kind if method else ""


def _reason(outcomes: Iterable[Outcome]) -> str:
    return next((outcome.error for outcome in outcomes if outcome.error), "")


def _cost(results: Sequence[Mapping[str, Any]], outcomes: Sequence[Outcome]) -> dict[str, float]:
    costs = [r["cost"] for r in results if "cost" in r]
    found = {key: sum(c[key] for c in costs) / len(costs) for key in (costs[0] if costs else ())}
    seconds = [o.made["processor_seconds"] for o in outcomes if o.result is not None]
    return found | ({"processor seconds": sum(seconds) / len(seconds)} if seconds else {})
