"""What the page of a trace shows: plain, frozen data like the rest of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from freehold.errors import DataError


@dataclass(frozen=True)
class Copy:
    """One customer's copy, and what the suspect makes of its key.

    Attributes:
        customer: whose it is.
        matches: secret answers that the suspect gave.
        p_value: chance of so many for a suspect that comes from no copy.
        p_adjusted: the same, corrected for the number of customers and for uncommitted keys.
        found: the decision in a word, such as ``match``.
    """

    customer: str
    matches: int
    p_value: float
    p_adjusted: float
    found: str


@dataclass(frozen=True)
class Group:
    """Copies that chance treats alike.

    Attributes:
        trials: secret answers of each, at least one.
        rate: chance of giving one of them without the mark.
        masses: chance of 0, 1, ... ``trials`` of them.
        needed: fewest that a name asks for, None if no number is enough.
        copies: the likeliest first, at least one.
    """

    trials: int
    rate: float
    masses: Sequence[float]
    needed: int | None
    copies: Sequence[Copy]

    def __post_init__(self) -> None:
        if not self.copies or len(self.masses) != self.trials + 1:
            raise DataError(f"{len(self.copies)} copies, {len(self.masses)} chances", where="group")


@dataclass(frozen=True, kw_only=True)
class TracePage:
    """A suspect against the copies of all customers.

    Attributes:
        title: heading.
        summary: sentences to open with.
        decision: in a word, such as ``Match``.
        customer: who is named, empty if nobody is.
        groups: at least one; of the likeliest copy first.
        alpha: largest chance of naming anybody if the suspect comes from no copy.
        queries: images that it was asked about.
        left_out: sentences on customers whose copies are of another kind of model.
        unshown: sentences on what this does not show.
        versions: of the software.
    """

    title: str
    summary: Sequence[str]
    decision: str
    customer: str
    groups: Sequence[Group]
    alpha: float
    queries: int
    left_out: Sequence[str] = ()
    unshown: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def customers(self) -> int:
        """How many were compared."""
        return sum(len(group.copies) for group in self.groups)
