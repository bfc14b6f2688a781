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
    row, value = 20, 64
    with drawing.style(key):
        names = min(0.42 * width, 14 + max(drawing.extent(layer.name, 12) for layer in kept))
        bar = width - names - value
        figure, axes = drawing.pixels(width, row * len(kept))
        for index, layer in enumerate(kept):
            y = row * (index + 0.5)
            axes.text(0, y + 4, drawing.shorten(layer.name, names - 12, 12), size=12)
            axes.barh(y, bar, left=names, height=10, color=TRACK, lw=0)
            axes.barh(y, bar * layer.share, left=names, height=10, color=MUTED, lw=0)
            axes.text(width, y + 4, numbers.percent(layer.share), size=12, ha="right")
        least = min(kept, key=lambda layer: layer.share)
        label = (
            f"Share of the weights kept in each of {len(kept)} layers, "
            f"least in {least.name} with {numbers.percent(least.share)}."
        )
        return drawing.inline(figure, key=key, label=label)
