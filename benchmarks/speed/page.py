"""The figures as one HTML file, in the look of all pages: ratios on one scale, growth on log-log panels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed.figures import TOLERANCE, Figure
from freehold.report import drawing, numbers
from freehold.report.drawing import COLOURS
from freehold.report.page import NARROW, PANEL, WIDE, environment, without_controls

INK, MUTED, RULE, TRACK = (COLOURS[name] for name in ("ink", "muted", "rule", "track"))
GOOD, BAD = COLOURS["authorized"], COLOURS["unauthorized"]
TEMPLATE = Path(__file__).with_name("page.html.j2")


def write(
    groups: Mapping[str, Sequence[Figure]], machine: Mapping[str, Any], known: Mapping[str, float], path: Path
) -> Path:
    """Write the page to ``path``; gives it back."""
    path.write_text(render(groups, machine, known))
    return path


def render(
    groups: Mapping[str, Sequence[Figure]], machine: Mapping[str, Any], known: Mapping[str, float]
) -> str:
    """The whole page as HTML text."""
    from markupsafe import Markup

    every = [figure for figures in groups.values() for figure in figures]
    drawn = {}
    for index, figures in enumerate(groups.values()):
        shown = [f for f in figures if f.kind == "ratio" and not f.at_least]
        for name, width in (("wide", WIDE), ("narrow", NARROW)):
            if shown:
                key = f"ratios-{index}-{name}"
                drawn[key] = ratios(shown, width=width, key=key)
        for number, figure in enumerate(figures):
            if figure.points:
                drawn[f"growth-{index}-{number}"] = growth(
                    figure, width=PANEL, key=f"growth-{index}-{number}"
                )
    html = environment().from_string(TEMPLATE.read_text()).render(
        groups=groups,
        machine=machine,
        known=known,
        bars=[figure for figure in every if figure.bar is not None],
        missed=[figure for figure in every if not figure.holds],
        tolerance=round(100 * (TOLERANCE - 1)),
        figures={name: Markup(svg) for name, svg in drawn.items()},
        shown=shown_value,
    )  # fmt: skip
    return without_controls(html)


def shown_value(value: float) -> str:
    """Three significant digits."""
    return numbers.short(float(f"{value:.3g}"))


def ratios(figures: Sequence[Figure], *, width: int, key: str) -> str:
    """Each ratio as a stroke from the floor, on a logarithmic scale, with its quartiles and its bar.

    Args:
        figures: ratios of which less is better.
        width: pixels.
        key: unique in the document.
    """
    narrow = width < 500
    names = 0 if narrow else min(0.45 * width, 14 + max(drawing.extent(f.name, 12) for f in figures))
    tall, right = (46, 52) if narrow else (28, 56)
    values = [v for f in figures for v in (f.value, f.bar or f.value)]
    low, high = math.log(min(0.9, *values)) - 0.1, math.log(max(1.1, *values)) + 0.1
    height = tall * len(figures) + 26

    def at(value: float) -> float:
        return names + (width - names - right) * (math.log(value) - low) / (high - low)

    with drawing.style(key):
        figure, axes = drawing.pixels(width, height)
        axes.text(max(at(1), 26), height - 6, "the floor", size=11, color=MUTED, ha="center")
        for index, found in enumerate(figures):
            top = tall * index
            y = top + (32 if narrow else 14)
            room = width if narrow else names - 12
            axes.text(0, top + 16 if narrow else y + 4, drawing.shorten(found.name, room, 12), size=12)
            colour = GOOD if found.holds else BAD
            first, third = found.spread or (found.value, found.value)
            axes.plot([names, width - right], [y, y], color=RULE, lw=1, zorder=0)
            axes.plot([at(1)] * 2, [y - 11, y + 14], color=MUTED, lw=1, zorder=0)
            axes.plot([at(1), at(found.value)], [y, y], color=colour, lw=3, solid_capstyle="butt")
            ends = [min(max(at(v), names), width - right) for v in (first, third)]
            axes.plot(ends, [y, y], color=colour, lw=8, alpha=0.3, solid_capstyle="butt")
            axes.plot(at(found.value), y, "o", ms=7, color=colour)
            if found.bar is not None:
                axes.plot([at(found.bar)] * 2, [y - 7, y + 7], color=INK, lw=1.8)
            axes.text(width, y + 4, shown_value(found.value), size=12, ha="right", color=INK)
        told = "; ".join(
            f"{f.name}: {shown_value(f.value)}" + (f", bar {shown_value(f.bar)}" if f.bar else "")
            for f in figures
        )
        return drawing.inline(figure, key=key, label=f"Time over the floor. {told}.")


def growth(found: Figure, *, width: int, key: str) -> str:
    """Seconds over the size, both logarithmic, with the fitted line.

    Args:
        found: with points.
        width: pixels.
        key: unique in the document.
    """
    from matplotlib import ticker

    height = 210
    sizes, seconds = zip(*found.points, strict=True)
    with drawing.style(key):
        figure = drawing.canvas(width, height)
        axes = figure.add_axes((56 / width, 30 / height, 1 - 76 / width, 1 - 42 / height), facecolor="none")
        axes.set(xscale="log", yscale="log")
        middle = [math.exp(sum(map(math.log, v)) / len(v)) for v in (sizes, seconds)]
        line = [middle[1] * (size / middle[0]) ** found.value for size in (sizes[0], sizes[-1])]
        axes.plot([sizes[0], sizes[-1]], line, color=GOOD if found.holds else BAD, lw=1.7)
        axes.plot(sizes, seconds, "o", ms=6, color=INK)
        axes.xaxis.set_major_locator(ticker.FixedLocator(sizes))
        axes.xaxis.set_major_formatter(lambda value, _: _size(value))
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5), numticks=5))
        axes.yaxis.set_major_formatter(lambda value, _: f"{numbers.short(value)} s")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_locator(ticker.NullLocator())
        axes.margins(x=0.06, y=0.12)
        axes.grid(axis="y", color=RULE, lw=1)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(MUTED)
        axes.tick_params(axis="both", length=0, labelsize=11.5, labelcolor=MUTED, pad=6)
        told = "; ".join(f"{_size(n)}: {s:.3g} s" for n, s in found.points)
        return drawing.inline(
            figure, key=key, label=f"{found.name}. {told}. Exponent {shown_value(found.value)}."
        )


def _size(value: float) -> str:
    if value < 10_000:
        return numbers.count(round(value))
    return f"{value / 1000:.0f}k" if value < 1e6 else f"{value / 1e6:.1f}M"
