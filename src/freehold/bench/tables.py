"""Rows as tables, for each pair and model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from freehold.bench.account import DROP, MATCHES, OWNER, ST_D, THIEF, Figure, Row
from freehold.report.numbers import SPACE, fixed, percent
from freehold.report.suite import Entry, Matrix, State

NO_ATTACK = "no attack"


def groups(rows: Iterable[Row]) -> dict[tuple[str, str, str], list[Row]]:
    """Rows by block, pair and model, in order."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        found.setdefault(row.group, []).append(row)
    return found


def matrices(rows: Sequence[Row]) -> list[Matrix]:
    """The tables of one group."""
    bound = [row for row in rows if row.kind == "authorization" and not row.trial.startswith("curve: ")]
    marked = [row for row in rows if row.kind == "ownership"]
    forged = [row for row in marked if row.forged or _is_forgery(row)]
    marked = [row for row in marked if row not in forged]
    found = []
    if bound:
        found += [_worst(bound), _authorization(bound)]
    if [row for row in marked if row.trial] or not forged:
        found += [_ownership(marked)] if marked else []
    if forged:
        found.append(_forgeries(forged))
    return found


def worst_attack(rows: Sequence[Row]) -> Row | None:
    """Of one method's rows the attack after which the thief has most; None where none is done."""
    attacked = [row for row in rows if row.trial and thief(row) is not None]
    return max(attacked, key=lambda row: thief(row) or 0.0, default=None)


def thief(row: Row) -> float | None:
    """Unauthorized accuracy of the attacker's best or last state, whichever is higher, mean over seeds."""
    found = [row.figures[name].mean for name in (THIEF, f"{THIEF} (last)") if name in row.figures]
    return max(found) if found else None


def by_method(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by label of the method, in order."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.method, []).append(row)
    return found


def plain(rows: Sequence[Row]) -> Row | None:
    """The row without a trial, if it is done."""
    return next((row for row in rows if not row.trial and row.figures), None)


def _worst(rows: Sequence[Row]) -> Matrix:
    columns = ["owner pays, points", "ST-D", "thief before", "thief after", "worst attack", "thief then"]
    lines = []
    for method, own in by_method(rows).items():
        base, worst = plain(own), worst_attack(own)
        if base is None:
            state = next(row for row in own if not row.trial)
            lines.append((method, [undone(state)] + [Entry("–")] * 5))
            continue
        entries = [
            _spread(base.figures.get(DROP), 1.0),
            _number(base.figures.get(ST_D), 4),
            Entry(percent(base.before)) if base.before is not None else Entry("–"),
            _spread(base.figures.get(THIEF)),
            Entry(worst.trial if worst else "–"),
            Entry(percent(thief(worst) or 0.0)) if worst else Entry.without("missing"),
        ]
        lines.append((method, entries))
    caption = "The attack after which the thief has most, of those that are done; mean over seeds."
    return Matrix("What the owner pays, what the thief keeps", caption, "method", columns, lines)


def _authorization(rows: Sequence[Row]) -> Matrix:
    caption = (
        "Authorized / unauthorized accuracy in percent, mean over seeds; ± is half of Student's 95 % "
        "interval. Of the attacker's best and last state the one with the higher unauthorized accuracy."
    )
    return _matrix("Every attack", caption, rows, _both)


def _both(row: Row) -> Entry:
    last = f"{THIEF} (last)"
    use_last = last in row.figures and row.figures[last].mean > row.figures[THIEF].mean
    suffix = " (last)" if use_last else ""
    pair = [row.figures[name + suffix] for name in (OWNER, THIEF) if name + suffix in row.figures]
    text = " / ".join(fixed(100 * one.mean, 1) for one in pair)
    return Entry(text, " / ".join(filter(None, map(_half, pair))), _partly(row))


def _ownership(rows: Sequence[Row]) -> Matrix:
    caption = (
        "Verdicts that say MATCH, of all seeds; below, secret answers or bits that match and accuracy, mean "
        "over seeds. Verified against a commitment, at the suite's level."
    )
    return _matrix("Whose it is, after every attack", caption, rows, _matched)


def _matched(row: Row) -> Entry:
    hits = sum(decision == "MATCH" for decision in row.decisions)
    labels = {MATCHES: "matching", OWNER: "accuracy"}
    parts = [f"{percent(row.figures[n].mean)} {label}" for n, label in labels.items() if n in row.figures]
    return Entry(f"{hits} of {len(row.decisions)}", ", ".join(parts), _partly(row))


def _forgeries(rows: Sequence[Row]) -> Matrix:
    caption = "False claims that are granted, of all seeds: as the publication verifies / by this package."
    return _matrix("Forgeries", caption, rows, _granted)


def _granted(row: Row) -> Entry:
    published = [one for one, _ in row.forged if one is not None]
    ours = sum(one for _, one in row.forged)
    text = f"{sum(published)} of {len(published)}" if published else "–"
    return Entry(f"{text} / {ours} of {len(row.forged)}", "", _partly(row))


def _matrix(title: str, caption: str, rows: Sequence[Row], entry: Callable[[Row], Entry]) -> Matrix:
    methods = list(by_method(rows))
    trials = list(dict.fromkeys(row.trial for row in rows))
    found = {(row.trial, row.method): row for row in rows}
    lines = [
        (trial or NO_ATTACK, [_entry(found.get((trial, method)), entry) for method in methods])
        for trial in trials
    ]
    return Matrix(title, caption, "attack", methods, lines)


def _entry(row: Row | None, entry: Callable[[Row], Entry]) -> Entry:
    if row is None:
        return Entry.without("inapplicable")
    return entry(row) if row.states["done"] else undone(row)


def undone(row: Row) -> Entry:
    """Of a row without a figure."""
    for state in ("failed", "inapplicable"):
        if row.states[state]:
            return Entry.without(state, row.reason)
    return Entry.without("missing")


def _partly(row: Row) -> State:
    return "done" if row.states["done"] == row.seeds else "partial"


def _is_forgery(row: Row) -> bool:
    from freehold.bench.forgeries import FORGERIES

    return row.trial in FORGERIES


def _spread(figure: Figure | None, scale: float = 100.0) -> Entry:
    if figure is None:
        return Entry("–")
    unit = f"{SPACE}%" if scale == 100 else ""
    return Entry(fixed(scale * figure.mean, 1) + unit, _half(figure, scale))


def _half(figure: Figure, scale: float = 100.0) -> str:
    return "" if figure.high is None else f"±{fixed(scale * (figure.high - figure.mean), 1)}"


def _number(figure: Figure | None, digits: int) -> Entry:
    return Entry("–") if figure is None else Entry(fixed(figure.mean, digits))
