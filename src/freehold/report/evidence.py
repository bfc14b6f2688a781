"""What a page shows of a verdict on whose a model is: plain, frozen data like the rest of a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from freehold.errors import DataError


@dataclass(frozen=True)
class Part:
    """Trials of one part, such as a layer, and how many of them the suspect matched."""

    name: str
    matches: int
    trials: int

    def __post_init__(self) -> None:
        if not 0 <= self.matches <= self.trials or self.trials < 1:
            raise DataError(f"{self.matches} of {self.trials} matches", where=f"part {self.name!r}")

    @property
    def share(self) -> float:
        """Fraction of the trials matched."""
        return self.matches / self.trials


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One suspect against one key.

    Attributes:
        suspect: its name.
        decision: ``MATCH``, ``NO_MATCH`` or ``INCONCLUSIVE``.
        reason: why, in one sentence.
        matches: secret answers that the suspect gave.
        trials: that it was put to; 0 if it was asked nothing.
        rate: chance that an innocent suspect matches one trial.
        masses: chance of 0, 1, ... ``trials`` matches for an innocent suspect; empty without trials.
        needed: fewest matches that the level asks for, None if no number is enough.
        p_value: chance of so many matches for an innocent suspect.
        p_adjusted: the same, with all that was corrected for; this is compared with ``alpha``.
        alpha: level of the test.
        low: lower end of the 95 % interval of the match rate.
        high: its upper end.
        null: ``exact`` or ``measured``.
        why: where the rate comes from.
        access: what was used of the suspect.
        queries: images it was asked about.
        sequential: whether the test could stop early.
        committed: whether an earlier commitment was compared.
        parts: agreement by part, in order; may be empty.
    """

    suspect: str
    decision: str
    reason: str
    matches: int
    trials: int
    rate: float
    masses: Sequence[float]
    needed: int | None
    p_value: float
    p_adjusted: float
    alpha: float
    low: float
    high: float
    null: str
    why: str
    access: str
    queries: int
    sequential: bool
    committed: bool
    parts: Sequence[Part] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.matches <= self.trials or len(self.masses) not in (0, self.trials + 1):
            raise DataError(f"{self.matches} matches in {self.trials} trials", where=self.suspect)

    @property
    def word(self) -> str:
        """The decision as people write it."""
        return word(self.decision)

    @property
    def share(self) -> float:
        """Fraction of the trials matched; 0 without trials."""
        return self.matches / self.trials if self.trials else 0.0


def word(decision: str) -> str:
    """``MATCH``, ``NO_MATCH`` or ``INCONCLUSIVE`` as people write it."""
    return {"MATCH": "Match", "NO_MATCH": "No match"}.get(decision, "Inconclusive")
