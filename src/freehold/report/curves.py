"""The curves of a page as inline SVG: training over steps, and learning over labelled images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from freehold.report import drawing, numbers
from freehold.report.drawing import COLOURS
from freehold.report.parts import Curve, Learning

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, RULE = (COLOURS[name] for name in ("ink", "muted", "rule"))
HELPS, HINDERS = (COLOURS[name] for name in ("unauthorized", "authorized"))
DASHES = ("-", (0, (5, 2.5)), (0, (1.2, 2)), (0, (7, 2, 1.2, 2)))


def learning(found: Learning, *, width: int, key: str) -> str:
    """Accuracy over labelled images: the reference, the attacker worst for the defender, and the others.

    The area between the first two is shaded: where the released model helps in one colour, where it
    hinders in another. The horizontal axis is logarithmic, as the area is.

    Args:
        found: the curves.
        width: pixels.
        key: unique in the document.
    """
    from matplotlib import ticker

    height, worst = (320 if width > 500 else 270), found.attacked[0]
    with drawing.style(key):
        figure = drawing.canvas(width, height)
        axes = figure.add_axes((46 / width, 46 / height, 1 - 60 / width, 1 - 58 / height), facecolor="none")
        axes.set_xscale("log")
        sizes, base, top = list(found.sizes), list(found.baseline), list(worst.accuracies)
        for above, colour in ((True, HELPS), (False, HINDERS)):
            part = [(t >= b) == above for t, b in zip(top, base, strict=True)]
            axes.fill_between(sizes, base, top, where=part, color=colour, alpha=0.18, lw=0, interpolate=True)
        for other in found.attacked[1:]:
            axes.plot(sizes, other.accuracies, color=MUTED, lw=1, alpha=0.6)
        axes.plot(sizes, base, color=INK, ls=DASHES[1], lw=1.8)
        axes.plot(sizes, top, color=HELPS, lw=2, marker="o", ms=4.5)
        axes.xaxis.set_major_locator(ticker.FixedLocator(sizes if width > 500 else sizes[::2]))
        axes.xaxis.set_minor_locator(ticker.NullLocator())
        axes.xaxis.set_major_formatter(lambda value, _: numbers.count(round(value)))
        axes.yaxis.set_major_locator(ticker.FixedLocator([0, 0.25, 0.5, 0.75, 1]))
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}")
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("labelled images of the attacker", size=11.5, color=MUTED, labelpad=8)
        _plain(axes)
        label = (
            f"Accuracy on {found.domain} after fine-tuning, over the number of labelled images. "
            f"{worst.name}: {_ends(top)}; {found.reference}: {_ends(base)}."
        )
        return drawing.inline(figure, key=key, label=label)


def _ends(accuracies: Sequence[float]) -> str:
    return f"from {numbers.percent(accuracies[0])} to {numbers.percent(accuracies[-1])}"


def panel(title: str, curves: Sequence[Curve], *, width: int, key: str) -> str:
    """The series of one panel over the training steps; :func:`line` says how the n-th is drawn.

    Args:
        title: of the panel; the page prints it above.
        curves: series that share the axes, which are as :func:`is_log` says.
        width: pixels.
        key: unique in the document.
    """
    height = 190
    with drawing.style(key):
        figure = drawing.canvas(width, height)
        axes = figure.add_axes((46 / width, 30 / height, 1 - 66 / width, 1 - 36 / height), facecolor="none")
        log = is_log(curves)
        for index, curve in enumerate(curves):
            colour, dashes = line(index, curve)
            shown = [math.isfinite(v) and (v > 0 or not log) for v in curve.values]
            values = [float(v) if show else math.nan for v, show in zip(curve.values, shown, strict=True)]
            # A point between two gaps has no line that would show it.
            padded = [False, *shown, False]
            alone = [i for i, show in enumerate(shown) if show and not padded[i] and not padded[i + 2]]
            steps = [float(step) for step in curve.steps]
            (drawn,) = axes.plot(steps, values, color=COLOURS[colour], ls=DASHES[dashes], lw=1.7, ms=5)
            if alone:
                drawn.set(marker="o", markevery=alone)
        _axes(
            axes, [float(v) for c in curves for v in c.values if math.isfinite(v) and (v > 0 or not log)], log
        )
        ends = "; ".join(f"{c.series} ends at {numbers.short(c.last)}" for c in curves)
        return drawing.inline(figure, key=key, label=f"{title} over the training steps. {ends}.")


def is_log(curves: Sequence[Curve]) -> bool:
    """Whether the panel has a logarithmic scale: one of its series asks for it and something is positive."""
    return any(c.log for c in curves) and any(v > 0 and math.isfinite(v) for c in curves for v in c.values)


def line(index: int, curve: Curve) -> tuple[str, int]:
    """Colour (a name in ``COLOURS``) and dashes (an index of ``DASHES``) of the n-th series of a panel."""
    shift = index // len(DASHES)  # eight neutral looks before one comes again
    return curve.role or ("ink", "muted")[(index + shift) % 2], index % len(DASHES)


def _axes(axes: Axes, shown: Sequence[float], log: bool) -> None:
    from matplotlib import ticker

    if log:
        axes.set_yscale("log")
        decades = math.log10(max(shown) / min(shown))
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1,) if decades > 2 else (1, 2, 5), numticks=5))
        axes.yaxis.set_minor_locator(ticker.NullLocator())
    if not log or decades < 0.5:
        axes.yaxis.set_major_locator(ticker.MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(lambda value, _: numbers.short(value))
    axes.xaxis.set_major_locator(ticker.MaxNLocator(4, integer=True, steps=[1, 2, 2.5, 5, 10], min_n_ticks=1))
    axes.xaxis.set_major_formatter(lambda value, _: numbers.count(round(value)))
    axes.margins(x=0.01, y=0.08)
    _plain(axes)
    if not shown:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center", color=MUTED)


def _plain(axes: Axes) -> None:
    axes.grid(axis="y", color=RULE, lw=1)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.tick_params(axis="both", length=0, labelsize=11.5, labelcolor=MUTED, pad=6)
