"""Pages for people: plain data in, one self-contained HTML file out."""

from freehold.report.contents import (
    Accuracy,
    Attacked,
    Curve,
    DomainResult,
    Layer,
    Learning,
    MethodCard,
    PageData,
    Parameter,
    Role,
    Sample,
    Transfer,
)
from freehold.report.evidence import Evidence, Part
from freehold.report.page import render_page, write_page

__all__ = [
    "Accuracy",
    "Attacked",
    "Curve",
    "DomainResult",
    "Evidence",
    "Layer",
    "Learning",
    "MethodCard",
    "PageData",
    "Parameter",
    "Part",
    "Role",
    "Sample",
    "Transfer",
    "render_page",
    "write_page",
]
