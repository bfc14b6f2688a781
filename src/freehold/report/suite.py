"""What the page of a benchmark shows: plain, frozen data, free of torch and of the house above."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from freehold.errors import DataError
from freehold.report.parts import Learning

State = Literal["done", "partial", "inapplicable", "failed", "missing"]
WORDS: dict[str, str] = {"inapplicable": "does not apply", "failed": "failed", "missing": "missing"}


@dataclass(frozen=True)
class Entry:
    """One cell of a table.

    Attributes:
        text: the figure; of what is not done a word says so.
        small: its uncertainty, or what else belongs to it.
        state: ``partial`` where some of the seeds are not done.
    """

    text: str
    small: str = ""
    state: State = "done"

    @classmethod
    def without(cls, state: State, small: str = "") -> Entry:
        """Of something that has no figure."""
        return cls(WORDS[state], small, state)


@dataclass(frozen=True)
class Matrix:
    """A table with a name for each row and column.

    Attributes:
        title: heading.
        caption: how the entries are read.
        corner: heading of the first column.
        columns: headings of the others.
        rows: heading and entries of each row, as many as columns.
    """

    title: str
    caption: str
    corner: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Entry]]]

    def __post_init__(self) -> None:
        for name, entries in self.rows:
            if len(entries) != len(self.columns):
                raise DataError(f"{len(entries)} entries for {len(self.columns)} columns", where=name)


@dataclass(frozen=True)
class Spot:
    """A method between two measures; what an attack changes is the way from ``plain`` to ``worst``.

    Attributes:
        name: of the method.
        pays: what the owner pays, in points.
        plain: what the thief has without an attack, a share; None where that says nothing.
        worst: the same after the worst attack.
        attack: its name.
    """

    name: str
    pays: float
    plain: float | None
    worst: float
    attack: str


@dataclass(frozen=True)
class Pareto:
    """What owners pay against what thieves keep; left and low is better."""

    title: str
    across: str
    up: str
    spots: Sequence[Spot]
    chance: float | None = None


@dataclass(frozen=True)
class Heat:
    """Shares in [0, 1] by row and column; None is missing."""

    title: str
    caption: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float | None]]


@dataclass(frozen=True)
class Radar:
    """What is left of each method's protection under each attack: 1 is all, 0 nothing, None not measured."""

    title: str
    caption: str
    axes: Sequence[str]
    series: Mapping[str, Sequence[float | None]]


@dataclass(frozen=True)
class Group:
    """One pair of domains and one model: tables and pictures."""

    title: str
    matrices: Sequence[Matrix]
    paretos: Sequence[Pareto] = ()
    radars: Sequence[Radar] = ()
    learning: Sequence[Learning] = ()


@dataclass(frozen=True)
class Anchor:
    """A published figure beside ours; the settings differ, so it is a landmark and no bar."""

    what: str
    published: str
    ours: str
    setting: str
    source: str


@dataclass(frozen=True, kw_only=True)
class SuitePage:
    """Everything on the page of a benchmark.

    Attributes:
        title: of the suite.
        summary: sentences to open with.
        counts: cells by state.
        groups: by pair and model.
        heats: source × target, one a method.
        anchors: published figures.
        failures: what failed and why, in sentences.
        versions: software and machines by name.
        notes: caveats in whole sentences.
    """

    title: str
    summary: Sequence[str]
    counts: Mapping[str, int]
    groups: Sequence[Group]
    heats: Sequence[Heat] = ()
    anchors: Sequence[Anchor] = ()
    failures: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
