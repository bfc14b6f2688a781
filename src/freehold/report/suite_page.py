"""A benchmark as one HTML file, in the look of all pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from freehold.report import curves, suite_figures
from freehold.report.page import NARROW, WIDE, environment, without_controls
from freehold.report.suite import SuitePage


def render_suite(data: SuitePage) -> str:
    """The whole page as HTML text."""
    from markupsafe import Markup

    html = environment().get_template("suite.html.j2").render(
        data=data, figures={name: Markup(svg) for name, svg in _figures(data).items()}
    )  # fmt: skip
    return without_controls(html)


def _figures(data: SuitePage) -> dict[str, str]:
    """All drawings by key; those of a phone are drawn apart, so that their type is not shrunken."""
    drawn = {}
    for name, width in (("wide", WIDE), ("narrow", NARROW)):
        shown: list[tuple[str, Callable[..., str], Sequence[Any]]] = [
            ("heat", suite_figures.heat, data.heats)
        ]
        for number, group in enumerate(data.groups):
            shown += [
                (f"pareto-{number}", suite_figures.pareto, group.paretos),
                (f"radar-{number}", suite_figures.radar, group.radars),
                (f"learning-{number}", curves.learning, group.learning),
            ]
        for kind, draw, figures in shown:
            for index, figure in enumerate(figures):
                key = f"{kind}-{index}-{name}"
                drawn[key] = draw(figure, width=width, key=key)
    for number, group in enumerate(data.groups):
        for index, pareto in enumerate(group.paretos):
            keys = [f"mark-{number}-{index}-{spot}" for spot in range(len(pareto.spots))]
            drawn |= {key: suite_figures.mark(spot, key=key) for spot, key in enumerate(keys)}
        for index, radar in enumerate(group.radars):
            keys = [f"outline-{number}-{index}-{line}" for line in range(len(radar.series))]
            drawn |= {key: suite_figures.outline(line, key=key) for line, key in enumerate(keys)}
    return drawn
