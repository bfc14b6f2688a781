"""The pictures of a benchmark as inline SVG: Pareto, heat map, radar."""

from __future__ import annotations

import math
from collections.abc import Sequence

from freehold.report import drawing, numbers
from freehold.report.drawing import COLOURS
from freehold.report.suite import Heat, Pareto, Radar, Spot

INK, MUTED, RULE, PAPER, TRACK = (COLOURS[name] for name in ("ink", "muted", "rule", "paper", "track"))
GOOD, BAD = COLOURS["authorized"], COLOURS["unauthorized"]
STYLES = [(colour, dash) for dash in ((), (5, 2.5), (1.2, 2)) for colour in (GOOD, BAD, INK)]
MARKERS = "osD^vPX*<>"


def pareto(found: Pareto, *, width: int, key: str) -> str:
    """One method a column of two marks: hollow what the thief has without an attack, filled after the worst.

    Methods that no other beats in both, after the attack, are joined by a line.

    Args:
        found: the methods.
        width: pixels.
        key: unique in the document.
    """
    height, left, bottom, right = 330, 48, 52, 16
    with drawing.style(key):
        figure = drawing.canvas(width, height)
        axes = figure.add_axes(
            (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + 14) / height),
            facecolor="none",
        )  # fmt: skip
        for index, spot in enumerate(found.spots):
            marker = MARKERS[index % len(MARKERS)]
            if spot.plain is not None:
                axes.plot([spot.pays] * 2, [spot.plain, spot.worst], color=BAD, lw=1.3, zorder=2)
                axes.plot(spot.pays, spot.plain, marker, ms=8, mfc=PAPER, mec=GOOD, mew=1.7, zorder=3)
            axes.plot(spot.pays, spot.worst, marker, ms=8, mfc=BAD, mec=BAD, zorder=4)
        best = frontier(found.spots)
        axes.plot([s.pays for s in best], [s.worst for s in best], color=INK, lw=1.2, ls=(0, (2.5, 2)))
        if found.chance is not None:
            axes.axhline(found.chance, color=MUTED, lw=1, ls=(0, (1, 2)))
        axes.set_ylim(-0.04, 1.04)
        paid = [spot.pays for spot in found.spots]
        room = max(0.5, 0.08 * (max(paid) - min(paid)))
        axes.set_xlim(min(paid) - room, max(paid) + room)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}")
        axes.xaxis.set_major_formatter(lambda value, _: numbers.short(round(value, 6)))
        axes.set_xlabel(found.across, size=11.5, color=MUTED, labelpad=8)
        axes.grid(axis="y", color=RULE, lw=1)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(MUTED)
        axes.tick_params(axis="both", length=0, labelsize=11.5, labelcolor=MUTED, pad=6)
        spots = "; ".join(
            f"{s.name}: pays {numbers.short(s.pays)} points, {numbers.percent(s.worst)} after {s.attack}"
            for s in found.spots
        )
        return drawing.inline(figure, key=key, label=f"{found.up} over {found.across}. {spots}.")


def frontier(spots: Sequence[Spot]) -> list[Spot]:
    """Those that no other beats in both measures, from cheap to dear."""
    best: list[Spot] = []
    for spot in sorted(spots, key=lambda s: (s.pays, s.worst)):
        if not best or spot.worst < best[-1].worst:
            best.append(spot)
    return best


def mark(index: int, *, key: str) -> str:
    """A method's mark, for the list beside the drawing."""
    with drawing.style(key):
        figure, axes = drawing.pixels(14, 14)
        axes.plot(7, 7, MARKERS[index % len(MARKERS)], ms=8, mfc=BAD, mec=BAD)
        return drawing.inline(figure, key=key, label="")


def heat(found: Heat, *, width: int, key: str) -> str:
    """A field of squares with their figures; what is missing is empty with a dash.

    Args:
        found: shares by row and column.
        width: pixels.
        key: unique in the document.
    """
    names = min(0.34 * width, 14 + max(drawing.extent(name, 12) for name in found.rows))
    size = min(96.0, (width - names) / len(found.columns))
    tall, head = 34, 26
    with drawing.style(key):
        figure, axes = drawing.pixels(width, head + tall * len(found.rows) + 4)
        for column, name in enumerate(found.columns):
            x = names + size * (column + 0.5)
            axes.text(x, 16, drawing.shorten(name, size - 6, 12), size=12, color=MUTED, ha="center")
        for row, name in enumerate(found.rows):
            y = head + tall * (row + 0.5)
            axes.text(0, y + 4, drawing.shorten(name, names - 12, 12), size=12)
            for column, value in enumerate(found.values[row]):
                x = names + size * (column + 0.5)
                axes.barh(y, size - 3, left=x - size / 2 + 1.5, height=tall - 3, color=TRACK, lw=0, alpha=0.5)
                if value is None:
                    axes.text(x, y + 4, "–", size=12, color=MUTED, ha="center")
                    continue
                axes.barh(
                    y, size - 3, left=x - size / 2 + 1.5, height=tall - 3, color=BAD, lw=0, alpha=0.75 * value
                )
                axes.text(x, y + 4, f"{100 * value:.0f}", size=12, color=INK, ha="center")
        cells = "; ".join(
            f"{row} to {column}: {'missing' if value is None else numbers.percent(value)}"
            for row, values in zip(found.rows, found.values, strict=True)
            for column, value in zip(found.columns, values, strict=True)
            if row != column
        )
        return drawing.inline(figure, key=key, label=f"{found.title}. {cells}.")


def radar(found: Radar, *, width: int, key: str) -> str:
    """One outline a method over the attacks: far out is what withstands.

    Args:
        found: at least three axes.
        width: pixels.
        key: unique in the document.
    """
    height = min(width, 520) - (0 if width > 500 else 10)
    middle, radius = (width / 2, height / 2), min(width * 0.5 - (150 if width > 500 else 92), height / 2 - 34)
    turns = [2 * math.pi * i / len(found.axes) - math.pi / 2 for i in range(len(found.axes))]

    def at(turn: float, share: float) -> tuple[float, float]:
        return middle[0] + radius * share * math.cos(turn), middle[1] + radius * share * math.sin(turn)

    with drawing.style(key):
        figure, axes = drawing.pixels(width, height)
        for ring in (0.25, 0.5, 0.75, 1.0):
            points = [at(turn, ring) for turn in (*turns, turns[0])]
            axes.plot(*zip(*points, strict=True), color=RULE, lw=1, zorder=0)
        for turn, name in zip(turns, found.axes, strict=True):
            axes.plot(*zip(at(turn, 0), at(turn, 1), strict=True), color=RULE, lw=1, zorder=0)
            x, y = at(turn, 1 + 12 / radius)
            align = "center" if abs(math.cos(turn)) < 0.2 else "left" if math.cos(turn) > 0 else "right"
            room = width - x if align == "left" else x if align == "right" else width / 2
            axes.text(x, y + 4, drawing.shorten(name, room, 11), size=11, color=MUTED, ha=align)
        for index, (_, values) in enumerate(found.series.items()):
            colour, dash = STYLES[index % len(STYLES)]
            known = [(turn, value) for turn, value in zip(turns, values, strict=True) if value is not None]
            if not known:
                continue
            points = [at(turn, max(0.0, min(1.0, value))) for turn, value in (*known, known[0])]
            line = (0, dash) if dash else "-"
            axes.plot(*zip(*points, strict=True), color=colour, ls=line, lw=1.6, marker="o", ms=3, zorder=2)
        told = "; ".join(
            f"{name}: least {numbers.percent(max(0.0, min(kept)))}"
            for name, values in found.series.items()
            if (kept := [value for value in values if value is not None])
        )
        return drawing.inline(figure, key=key, label=f"{found.title}. {told}.")


def outline(index: int, *, key: str) -> str:
    """A method's line in a radar, for the list beside the drawing."""
    colour, dash = STYLES[index % len(STYLES)]
    with drawing.style(key):
        figure, axes = drawing.pixels(26, 10)
        axes.plot([1, 25], [5, 5], color=colour, ls=(0, dash) if dash else "-", lw=1.8)
        return drawing.inline(figure, key=key, label="")
