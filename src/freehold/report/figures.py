"""The bars of a page as inline SVG: accuracy by domain, kept weights by layer.

Each takes the width it will be shown at, so that a phone gets a drawing of its own, with type of the same
size, instead of a shrunken one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from freehold.report import drawing, numbers
from freehold.report.drawing import COLOURS
from freehold.report.parts import DomainResult, Layer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, PAPER, RULE, TRACK = (COLOURS[name] for name in ("ink", "muted", "paper", "rule", "track"))
MARKER = {"authorized": "o", "unauthorized": "D"}


def accuracy(domains: Sequence[DomainResult], *, width: int, key: str) -> str:
    """Accuracy before (hollow) and after (filled) by domain, with 95 % whiskers and the chance level.

    Args:
        domains: grouped by role.
        width: pixels.
        key: unique in the document.
    """
    roles = list(dict.fromkeys(domain.role for domain in domains))
    heading, row = 30, 70
    bottom = heading * len(roles) + row * len(domains)
    left, right = 6.0, width - 6.0

    def x(share: float) -> float:
        return left + share * (right - left)

    with drawing.style(key):
        figure, axes = drawing.pixels(width, bottom + 16)
        y = 0.0
        for role in roles:
            axes.text(0, y + 14, role.upper(), size=11, weight="bold", color=COLOURS[role])
            y += heading
            for domain in (d for d in domains if d.role == role):
                _dumbbell(axes, domain, x, y, width)
                y += row
        axes.text(0, bottom + 4, "0", size=11.5, color=MUTED)
        for quarter in (1, 2, 3):
            axes.text(x(quarter / 4), bottom + 4, str(25 * quarter), size=11.5, color=MUTED, ha="center")
        axes.text(width, bottom + 4, f"100{numbers.SPACE}%", size=11.5, color=MUTED, ha="right")
        ends = (
            f"{d.name} ({d.role}): {numbers.percent(d.before.value)} before, "
            f"{numbers.percent(d.after.value)} after"
            for d in domains
        )
        label = "Accuracy before and after protection. " + "; ".join(ends)
        return drawing.inline(figure, key=key, label=label)


def _dumbbell(axes: Axes, domain: DomainResult, x: Callable[[float], float], top: float, width: int) -> None:
    colour, marker = COLOURS[domain.role], MARKER[domain.role]
    axes.text(0, top + 10, drawing.shorten(domain.name, width - 132, 13), size=13)
    axes.text(width, top + 10, numbers.percent(domain.after.value), size=13, weight="bold", ha="right")
    axes.text(
        width - 58, top + 10, f"{numbers.percent(domain.before.value)} →", size=12, color=MUTED, ha="right"
    )
    for quarter in range(5):
        axes.plot([x(quarter / 4)] * 2, [top + 19, top + 53], color=RULE, lw=1, zorder=0)
    axes.plot([x(domain.chance)] * 2, [top + 19, top + 53], color=INK, lw=1.2, dashes=(2.5, 2), zorder=1)
    # Two lanes keep the pair apart where both accuracies are the same.
    lanes = ((domain.before, top + 29, PAPER), (domain.after, top + 43, colour))
    axes.plot(
        [x(measured.value) for measured, _, _ in lanes],
        [y for _, y, _ in lanes],
        color=colour,
        lw=1.5,
        zorder=2,
    )
    for measured, y, face in lanes:
        low, high = x(measured.low), x(measured.high)
        axes.plot([low, high], [y, y], color=colour, lw=1.3, zorder=3)
        axes.vlines([low, high], y - 5, y + 5, color=colour, lw=1.3, zorder=3)
        axes.plot(x(measured.value), y, marker, ms=7, mfc=face, mec=colour, mew=1.7, zorder=4)


def layers(kept: Sequence[Layer], *, width: int, key: str) -> str:
    """One bar a layer, from the input of the network downwards: the share of its weights that was kept.

    Args:
        kept: in the order of the network.
        width: pixels.
        key: unique in the document.
    """
    least = min(kept, key=lambda layer: layer.share)
    label = (
        f"Share of the weights kept in each of {len(kept)} layers, "
        f"least in {least.name} with {numbers.percent(least.share)}."
    )
    rows = [(layer.name, layer.share, numbers.percent(layer.share)) for layer in kept]
    return bars(rows, width=width, key=key, label=label, height=20, value=64)


def bars(
    rows: Sequence[tuple[str, float, str]],
    *,
    width: int,
    key: str,
    label: str,
    height: int,
    value: int,
    mark: float | None = None,
) -> str:
    """One bar a row: a name, how much of the bar is filled, and what stands at its end.

    Args:
        rows: name, share in [0, 1] and text, from the top.
        width: pixels.
        key: unique in the document.
        label: what a screen reader says.
        height: pixels a row.
        value: pixels left for the texts.
        mark: share at which every bar gets a dashed line.
    """
    with drawing.style(key):
        names = min(0.42 * width, 14 + max(drawing.extent(name, 12) for name, _, _ in rows))
        bar = width - names - value
        figure, axes = drawing.pixels(width, height * len(rows))
        for index, (name, share, text) in enumerate(rows):
            y = height * (index + 0.5)
            axes.text(0, y + 4, drawing.shorten(name, names - 12, 12), size=12)
            axes.barh(y, bar, left=names, height=10, color=TRACK, lw=0)
            axes.barh(y, bar * share, left=names, height=10, color=MUTED, lw=0)
            if mark is not None:
                axes.plot([names + bar * mark] * 2, [y - 9, y + 9], color=INK, lw=1.2, dashes=(2.5, 2))
            axes.text(width, y + 4, text, size=12, ha="right")
        return drawing.inline(figure, key=key, label=label)
