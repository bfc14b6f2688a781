"""Pages for people: plain data in, one self-contained HTML file out."""

from freehold.report.contents import PageData
from freehold.report.evidence import Evidence, Part
from freehold.report.page import render_page, write_page
from freehold.report.parts import (
    Accuracy,
    Attacked,
    Curve,
    DomainResult,
    Layer,
    Learning,
    MethodCard,
    Parameter,
    Role,
    Sample,
    Step,
    Transfer,
)

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
    "Step",
    "Transfer",
    "render_page",
    "write_page",
]
