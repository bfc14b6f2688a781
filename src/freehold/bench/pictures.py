"""Rows as the page of a benchmark shows them."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from freehold.bench.account import DROP, MATCHES, OWNER, THIEF, Row
from freehold.bench.runner import Summary
from freehold.bench.suite import Suite
from freehold.bench.tables import by_method, groups, matrices, plain, thief, worst_attack
from freehold.metrics.learning_curve import LearningCurve, slc_auc
from freehold.report.numbers import count, fixed, percent
from freehold.report.parts import Attacked, Learning
from freehold.report.suite import Anchor, Group, Heat, Pareto, Radar, Spot, SuitePage

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
        heats=_heats(counted),
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
        paretos=[p for p in (_pareto(rows), _pareto_of_marks(rows)) if p.spots],
        radars=[r for r in (_radar(rows), _radar_of_marks(rows)) if len(r.axes) >= 3 and r.series],
        learning=_learning(pair, rows),
    )


def _pareto(rows: Sequence[Row]) -> Pareto:
    spots, chance = [], None
    for method, own in by_method(r for r in rows if r.kind == "authorization").items():
        base, worst = plain(own), worst_attack(own)
        if base is None or DROP not in base.figures or THIEF not in base.figures:
            continue
        chance, kept = base.chance, base.figures[THIEF].mean
        top = max(kept, thief(worst) or 0.0) if worst else kept
        spots.append(Spot(method, base.figures[DROP].mean, kept, top, worst.trial if worst else ""))
    return Pareto(
        "What owners pay against what thieves keep",
        "source drop, points",
        "Unauthorized accuracy",
        spots,
        chance,
    )


def _pareto_of_marks(rows: Sequence[Row]) -> Pareto:
    """Of a mark the thief keeps the accuracy of the best model in which it does not show in every seed."""
    spots = []
    for method, own in by_method(r for r in rows if r.kind == "ownership" and not r.forged).items():
        base = plain(own)
        if base is None or DROP not in base.figures:
            continue
        clean = [r for r in own if r.trial and r.decisions and "MATCH" not in r.decisions]
        best = max(clean, key=lambda row: row.figures[OWNER].mean, default=None)
        top = best.figures[OWNER].mean if best else 0.0
        spots.append(Spot(method, base.figures[DROP].mean, None, top, best.trial if best else "none"))
    return Pareto(
        "What owners pay against what thieves keep without the mark",
        "accuracy lost by marking, points",
        "Accuracy of the best model whose mark is gone",
        spots,
    )


def _radar(rows: Sequence[Row]) -> Radar:
    """Of the drop that a method made on the target, the share that is left after an attack."""

    def left(base: Row, row: Row) -> float | None:
        now = thief(row)
        if now is None or base.before is None or THIEF not in base.figures:
            return None
        made = base.before - base.figures[THIEF].mean
        return (base.before - now) / made if made > 0.01 else None

    caption = (
        "Share of the drop on the unauthorized domain that is left after each attack; the outer ring: all."
    )
    bound = [r for r in rows if r.kind == "authorization" and not r.trial.startswith("curve: ")]
    return _rings("Robustness", caption, bound, left)


def _radar_of_marks(rows: Sequence[Row]) -> Radar:
    """Of the answers or bits above chance, the share that is left."""

    def left(base: Row, row: Row) -> float | None:
        if MATCHES not in row.figures or MATCHES not in base.figures:
            return None
        return row.figures[MATCHES].mean / base.figures[MATCHES].mean

    caption = "Matching answers or bits after each attack, as a share of those before it."
    return _rings(
        "Robustness of marks", caption, [r for r in rows if r.kind == "ownership" and not r.forged], left
    )


def _rings(title: str, caption: str, rows: Sequence[Row], left: Callable[[Row, Row], float | None]) -> Radar:
    trials = list(dict.fromkeys(row.trial for row in rows if row.trial and row.states["done"]))
    series: dict[str, list[float | None]] = {}
    for method, own in by_method(rows).items():
        base, found = plain(own), {row.trial: row for row in own}
        if base is not None:
            shares = [left(base, found[t]) if t in found else None for t in trials]
            if any(share is not None for share in shares):
                series[method] = shares
    return Radar(title, caption, trials, series)


def _learning(pair: str, rows: Sequence[Row]) -> list[Learning]:
    """Accuracy over labelled images: of each method its attacker worst for the owner."""
    curves = {(row.method, row.trial): _curve(row) for row in rows if row.curves}
    reference = curves.pop(("from scratch", "curve: scratch"), None)
    if reference is None:
        return []
    best: dict[str, Attacked] = {}
    for (method, trial), curve in curves.items():
        if len(curve.accuracies) != len(reference.accuracies):
            continue  # seeds are missing: no area yet
        area = slc_auc(curve, reference)
        bounds = None if area.low is None or area.high is None else (area.low, area.high)
        name = method if method == "unprotected" else f"{method}, {trial.removeprefix('curve: ')}"
        found = Attacked(name, area.budget, curve.mean, area.value, area.normalised, bounds)
        if method not in best or found.area > best[method].area:
            best[method] = found
    attacked = sorted(best.values(), key=lambda one: -one.area)
    if not attacked:
        return []
    target = pair.rpartition(" → ")[2]
    return [
        Learning(
            target,
            reference.sizes,
            "training from scratch",
            reference.mean,
            attacked,
            len(reference.accuracies),
        )
    ]


def _curve(row: Row) -> LearningCurve:
    """The seeds' curves as one, a row a seed."""
    parts = [LearningCurve.model_validate(curve) for curve in row.curves]
    return parts[0].model_copy(update={"accuracies": tuple(part.accuracies[0] for part in parts)})


def _heats(rows: Sequence[Row]) -> list[Heat]:
    """Source × target, one a method, where there are several pairs."""
    found: dict[str, dict[tuple[str, str], float | None]] = {}
    for row in rows:
        here, arrow, there = row.pair.partition(" → ")
        if row.kind != "authorization" or row.trial or not arrow or " + " in there:
            continue
        value = row.figures[THIEF].mean if THIEF in row.figures else None
        found.setdefault(row.method, {})[here, there] = value
    heats = []
    for method, values in found.items():
        sources = list(dict.fromkeys(here for here, _ in values))
        targets = list(dict.fromkeys(there for _, there in values))
        if len(values) < 2:
            continue
        heats.append(
            Heat(
                method,
                "Unauthorized accuracy in percent without an attack: rows are sources, columns targets; a "
                "dash is missing or not in the suite.",
                sources,
                targets,
                [[values.get((here, there)) for there in targets] for here in sources],
            )
        )
    return heats


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
            if method is None or method["name"] != anchor["method"] or not same or row.strong:
                continue
            if trial["data"] == "authorized" and all(trial["fields"].get(k) == v for k, v in fields.items()):
                ours.append(f"{_ours(row)} ({row.pair}, {row.model}, {row.method})")
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
        return f"{percent(row.figures[MATCHES].mean)} match, accuracy {percent(row.figures[OWNER].mean)}"
    return " / ".join(
        fixed(100 * row.figures[name].mean, 1) for name in (OWNER, THIEF) if name in row.figures
    )
