"""All that one page holds, as plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from freehold.errors import DataError
from freehold.report.evidence import Evidence
from freehold.report.parts import (
    Curve,
    DomainResult,
    Layer,
    Learning,
    MethodCard,
    Parameter,
    Role,
    Step,
    Transfer,
)


@dataclass(frozen=True, eq=False, kw_only=True)
class PageData:
    """Everything on one page.

    Attributes:
        title: heading of the page.
        summary: the sentences to open with, in plain words.
        method: name the method is registered under.
        card: the method's card.
        parameters: hyper-parameters by field name, in order.
        domains: shown authorized ones first, otherwise in this order; empty if nothing was measured.
        transfer: drops, ST-D, overall score; None where nothing was to be closed.
        layers: kept weights by layer, in the order of the network; empty for methods without a mask.
        curves: training curves; empty hides the section.
        gallery: images the method made, by what they are; each as in :class:`Sample`.
        learning: learning curves by unauthorized domain; empty hides the section.
        evidence: verdicts on whose a model is; empty hides the section.
        steps: what was checked, in order; empty hides the section.
        unshown: sentences on what does not follow from all this; empty hides the box.
        commitment: to the key that they are about, hex; empty hides it.
        figures: what the method measured of itself, by name.
        configuration: resolved configuration as TOML.
        versions: software by name.
        record: sentences saying where the data come from and how they were split.
        notes: caveats in whole sentences.
        duration: seconds of the whole run, if known.
    """

    title: str
    summary: Sequence[str]
    method: str
    card: MethodCard
    parameters: Mapping[str, Parameter]
    domains: Sequence[DomainResult] = ()
    transfer: Transfer | None = None
    layers: Sequence[Layer] = ()
    curves: Sequence[Curve] = ()
    gallery: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    learning: Sequence[Learning] = ()
    evidence: Sequence[Evidence] = ()
    steps: Sequence[Step] = ()
    unshown: Sequence[str] = ()
    commitment: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    configuration: str = ""
    versions: Mapping[str, str]
    record: Sequence[str] = ()
    notes: Sequence[str] = ()
    duration: float | None = None

    def __post_init__(self) -> None:
        for name in ("summary", "unshown", "record", "notes"):
            if isinstance(getattr(self, name), str):
                raise DataError("is one string", where=name, fix="give a list of sentences")

    def of_role(self, role: Role) -> list[DomainResult]:
        """The domains of one role, in the order given."""
        return [domain for domain in self.domains if domain.role == role]

    def panels(self) -> list[tuple[str, list[Curve]]]:
        """Curves grouped by panel, in order of first appearance."""
        groups: dict[str, list[Curve]] = {}
        for curve in self.curves:
            groups.setdefault(curve.panel, []).append(curve)
        return list(groups.items())


def by_role(domains: Iterable[DomainResult]) -> list[DomainResult]:
    """Authorized domains first, otherwise in the order given."""
    return sorted(domains, key=lambda domain: domain.role != "authorized")
