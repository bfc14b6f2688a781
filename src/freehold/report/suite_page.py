"""A benchmark as one HTML file, in the look of all pages."""

from __future__ import annotations

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
        for number, group in enumerate(data.groups):
            for index, pareto in enumerate(group.paretos):
                key = f"pareto-{number}-{index}-{name}"
                drawn[key] = suite_figures.pareto(pareto, width=width, key=key)
            for index, radar in enumerate(group.radars):
                key = f"radar-{number}-{index}-{name}"
                drawn[key] = suite_figures.radar(radar, width=width, key=key)
            for index, learning in enumerate(group.learning):
                key = f"learning-{number}-{index}-{name}"
                drawn[key] = curves.learning(learning, width=width, key=key)
        for index, heat in enumerate(data.heats):
            key = f"heat-{index}-{name}"
            drawn[key] = suite_figures.heat(heat, width=width, key=key)
    for number, group in enumerate(data.groups):
        for index, pareto in enumerate(group.paretos):
            keys = [f"mark-{number}-{index}-{spot}" for spot in range(len(pareto.spots))]
            drawn |= {key: suite_figures.mark(spot, key=key) for spot, key in enumerate(keys)}
        for index, radar in enumerate(group.radars):
            keys = [f"outline-{number}-{index}-{line}" for line in range(len(radar.series))]
            drawn |= {key: suite_figures.outline(line, key=key) for line, key in enumerate(keys)}
    return drawn
