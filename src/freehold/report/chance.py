"""Verdicts as inline SVG: what chance alone gives and what was observed; agreement part by part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from freehold.report import drawing, numbers
from freehold.report.drawing import COLOURS
from freehold.report.evidence import Evidence, Part
from freehold.report.figures import bars
from freehold.report.trace import Group

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, OWN = (COLOURS[name] for name in ("ink", "muted", "authorized"))
COLUMNS = 240  # at most so many columns of a distribution are drawn


def colour(evidence: Evidence) -> str:
    """A match is drawn like what is the owner's, all else like a text."""
    return OWN if evidence.decision == "MATCH" else INK


def distribution(evidence: Evidence, *, width: int, key: str) -> str:
    """How many secret answers chance alone gives, from none to all, and how many the suspect gave.

    The whisker is the 95 % interval of the suspect's match rate; the dashed line stands where a match begins.

    Args:
        evidence: with at least one trial.
        width: pixels.
        key: unique in the document.
    """
    trials, top, base = evidence.trials, 62, 182
    left, right = 8.0, width - 8.0

    def x(matches: float) -> float:
        return left + matches / trials * (right - left)

    with drawing.style(key):
        figure, axes = drawing.pixels(width, base + 44)
        _hill(axes, evidence.masses, x, base, base - top - 24)
        seen, tint, ends = x(evidence.matches), colour(evidence), (left, right)
        hump = x(max(range(trials + 1), key=evidence.masses.__getitem__))
        lines = [seen]
        if evidence.needed is not None:
            start = x(evidence.needed - 0.5)
            axes.plot([start] * 2, [top - 24, base], color=INK, lw=1.2, dashes=(2.5, 2))
            texts = [f"match from {numbers.count(evidence.needed)}"]
            lines.append(start)
            _near(axes, texts, top - 14, [start + 6, start - 6], lines, ends)
        places = [hump, seen - 8, seen + 8] if abs(seen - hump) < 50 else [hump]
        _near(axes, ["chance alone", "chance"], top + 14, places, lines, ends)
        axes.plot([seen] * 2, [26, base], color=tint, lw=2)
        text = f"{numbers.count(evidence.matches)} of {numbers.count(trials)}"
        half = drawing.extent(text, 15) / 2
        middle = min(max(seen, left + half), right - half)
        axes.text(middle, 18, text, size=15, weight="bold", color=tint, ha="center")
        low, high = x(trials * evidence.low), x(trials * evidence.high)
        axes.plot([low, high], [base + 10] * 2, color=tint, lw=1.3)
        axes.vlines([low, high], base + 6, base + 14, color=tint, lw=1.3)
        axes.plot(seen, base + 10, "o", ms=6.5, mfc=tint, mec=tint)
        _scale(axes, trials, x, base + 34)
        label = (
            f"{evidence.suspect} gave {evidence.matches} of {trials} secret answers; chance alone gives "
            f"about {numbers.short(evidence.rate * trials)}."
        )
        return drawing.inline(figure, key=key, label=label)


def copies(group: Group, named: str, *, width: int, key: str) -> str:
    """How many secret answers chance alone gives, and one stroke for each customer's copy.

    The copy that is named has a taller one; the dashed line stands where a name begins.

    Args:
        group: copies that chance treats alike.
        named: customer whose copy it is, empty if nobody is named.
        width: pixels.
        key: unique in the document.
    """
    trials, base, tall = group.trials, 150, 96
    left, right = 8.0, width - 8.0
    most = max(Counter(copy.matches for copy in group.copies).values())
    step = min(5.0, 60 / most)  # between dots of copies with equally many answers

    def x(matches: float) -> float:
        return left + matches / trials * (right - left)

    with drawing.style(key):
        foot = base + 6 + step * most
        figure, axes = drawing.pixels(width, round(foot) + 28)
        _hill(axes, group.masses, x, base, tall)
        own = next((copy for copy in group.copies if copy.customer == named), None)
        lines = [x(own.matches)] if own is not None else []
        if own is not None:
            axes.plot([lines[0]] * 2, [26, base], color=OWN, lw=2)
            text = drawing.shorten(named, 0.4 * (right - left), 15)
            half = 0.55 * drawing.extent(text, 15)  # bold is wider
            middle = min(max(lines[0], left + half), right - half)
            axes.text(middle, 18, text, size=15, weight="bold", color=OWN, ha="center")
        if group.needed is not None:
            start = x(group.needed - 0.5)
            lines.append(start)
            axes.plot([start] * 2, [base - tall - 24, base], color=INK, lw=1.2, dashes=(2.5, 2))
            texts = [f"a name from {numbers.count(group.needed)}"]
            _near(axes, texts, base - tall - 14, [start + 6, start - 6], lines, (left, right))
        seen: Counter[int] = Counter()
        for copy in group.copies:
            seen[copy.matches] += 1
            y, tint = base + 6 + step * (seen[copy.matches] - 0.5), OWN if copy is own else INK
            axes.plot(x(copy.matches), y, "o", ms=3.6, mfc=tint, mec=tint)
        _scale(axes, trials, x, foot + 20)
        first = group.copies[0]
        label = (
            f"Secret answers of {len(group.copies)} customers' copies out of {trials}; the most, "
            f"{first.matches}, are those of {first.customer}; chance alone gives about "
            f"{numbers.short(group.rate * trials)}."
        )
        return drawing.inline(figure, key=key, label=label)


def parts(found: Sequence[Part], rate: float, *, width: int, key: str) -> str:
    """One bar a part: the share of its trials that the suspect matched; the line is what chance gives.

    Args:
        found: in order.
        rate: chance of a match.
        width: pixels.
        key: unique in the document.
    """
    least = min(found, key=lambda part: part.share)
    label = (
        f"Agreement in each of {len(found)} parts, least in {least.name} "
        f"with {least.matches} of {least.trials}."
    )
    rows = [
        (part.name, part.share, f"{numbers.count(part.matches)} of {numbers.count(part.trials)}")
        for part in found
    ]
    return bars(rows, width=width, key=key, label=label, height=22, value=92, mark=rate)


def _hill(
    axes: Axes, masses: Sequence[float], x: Callable[[float], float], base: float, height: float
) -> None:
    """What chance alone gives, on the line at ``base``."""
    trials = len(masses) - 1
    heights, edges = _columns(masses, trials)
    axes.stairs(
        [base - height * h / max(heights) for h in heights], [x(e) for e in edges],
        baseline=base, fill=True, color=MUTED, lw=0, alpha=0.55,
    )  # fmt: skip
    axes.plot([x(0), x(trials)], [base, base], color=MUTED, lw=1)


def _scale(axes: Axes, trials: int, x: Callable[[float], float], y: float) -> None:
    for share, align in ((0, "left"), (0.25, "center"), (0.5, "center"), (0.75, "center"), (1, "right")):
        mark = numbers.count(round(share * trials))
        axes.text(x(share * trials), y, mark, size=11.5, color=MUTED, ha=align)


def _columns(masses: Sequence[float], trials: int) -> tuple[list[float], list[float]]:
    """Heights and edges of the distribution, the highest of each group where there are too many to draw."""
    size = -(-len(masses) // COLUMNS)
    heights = [max(masses[i : i + size]) for i in range(0, len(masses), size)]
    edges = [min(max(i - 0.5, 0.0), trials) for i in range(0, len(masses), size)]
    return heights, [*edges, float(trials)]


def _near(
    axes: Axes,
    texts: Sequence[str],
    y: float,
    places: Sequence[float],
    lines: Sequence[float],
    ends: tuple[float, float],
) -> None:
    """The first of ``texts`` that has room around, right of or left of one of ``places``; else nothing.

    Room is where no line runs through it.
    """
    for text in texts:
        wide = drawing.extent(text, 11.5)
        for start in (start for place in places for start in (place - wide / 2, place, place - wide)):
            inside = ends[0] <= start and start + wide <= ends[1]
            if inside and not any(start - 4 < line < start + wide + 4 for line in lines):
                axes.text(start, y, text, size=11.5, color=MUTED)
                return
