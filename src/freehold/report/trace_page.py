"""A trace as one HTML file, in the look of all pages."""

from __future__ import annotations

from freehold.report import chance
from freehold.report.page import NARROW, WIDE, environment, without_controls
from freehold.report.trace import TracePage


def render_trace(data: TracePage) -> str:
    """The whole page as HTML text."""
    from markupsafe import Markup

    figures = {
        f"copies-{number}-{name}": Markup(
            chance.copies(group, data.customer, width=width, key=f"copies-{number}-{name}")
        )
        for number, group in enumerate(data.groups)
        for name, width in (("wide", WIDE), ("narrow", NARROW))
    }
    html = environment().get_template("trace.html.j2").render(data=data, figures=figures)
    return without_controls(html)
