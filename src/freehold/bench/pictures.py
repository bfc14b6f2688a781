"""Rows as pictures: what is paid and kept, what withstands, learning curves, source by target."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from freehold.bench.account import DROP, MATCHES, OWNER, THIEF, Row
from freehold.bench.tables import by_method, plain, thief, worst_attack
from freehold.metrics.learning_curve import LearningCurve, slc_auc
from freehold.report.parts import Attacked, Learning
from freehold.report.suite import Heat, Pareto, Radar, Spot


def pareto(rows: Sequence[Row]) -> Pareto:
    """What owners pay against what thieves keep; without spots where nothing binds a model."""
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


def pareto_of_marks(rows: Sequence[Row]) -> Pareto:
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


def radar(rows: Sequence[Row]) -> Radar:
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


def radar_of_marks(rows: Sequence[Row]) -> Radar:
    """Of the answers or bits above chance, the share that is left."""

    def left(base: Row, row: Row) -> float | None:
        if MATCHES not in row.figures or MATCHES not in base.figures:
            return None
        made = base.figures[MATCHES].mean - base.rate
        return (row.figures[MATCHES].mean - base.rate) / made if made > 0.05 else None

    caption = (
        "Matching answers or bits above chance after each attack, as a share of those before it; a method "
        "that shows no mark before has no line."
    )
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


def learning(pair: str, rows: Sequence[Row]) -> list[Learning]:
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


def heats(rows: Sequence[Row]) -> list[Heat]:
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
