"""What a suspect answered to a key's trials, and what that is worth."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal

import torch
from torch import Tensor

from freehold.errors import UsageError
from freehold.statistics import agreement_tail, binomial_tail, detection, trials_needed

# Whoever shows no commitment made before the release may have tried many secrets on the suspect. No more
# than 2**64 can be tried; every p-value counts that many times.
UNCOMMITTED = 2.0**64
MISSED = 0.01  # chance of NO_MATCH for a model that keeps the share its method says survives


class Decision(StrEnum):
    """What a verdict says."""

    MATCH = "MATCH"
    NO_MATCH = "NO_MATCH"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True)
class Trials:
    """What the key expects, and what an innocent suspect would make of it.

    Attributes:
        labels: int64 ``(n,)``, at least 0: the secret answers, one an independent trial.
        rate: chance that an innocent suspect matches a trial, in (0, 1).
        null: ``exact`` if the labels were drawn uniformly and independently of all that a suspect sees,
            so that matches are Binomial(n, rate); ``measured`` if the rate is an upper bound that was
            measured on innocent models.
        why: one sentence on where the rate comes from.
        caveats: what a reader must know about these trials.
        parts: name and number of trials of each part, in order, e.g. layers and their bits; may be empty.
        tried: how many sets of labels a claimant could choose from before he commits himself, where what he
            commits to is not only his secret.
    """

    labels: Tensor = field(repr=False)
    rate: float
    null: Literal["exact", "measured"]
    why: str
    caveats: tuple[str, ...] = ()
    parts: tuple[tuple[str, int], ...] = ()
    tried: float = 1.0

    def __post_init__(self) -> None:
        if self.parts and sum(count for _, count in self.parts) != len(self.labels):
            raise UsageError("the parts are not all of the trials", where="trials")
        fits = self.labels.dtype == torch.int64 and self.labels.dim() == 1
        if not fits or not 0 < self.rate < 1 or bool((self.labels < 0).any()):
            raise UsageError("labels are int64 (n,) from 0, the rate is in (0, 1)", where="trials")

    def readable(self, answers: Tensor) -> tuple[Trials, Tensor]:
        """The trials without those that ``answers`` could not be read in, -1, and the other answers.

        Whether a trial can be read must not depend on its label: the null then stays what it is.

        Args:
            answers: int64 ``(m,)``, to the first m trials.
        """
        read = answers >= 0
        missing = int((~read).sum())
        if not missing:
            return self, answers
        kept = torch.cat([read, torch.ones(len(self.labels) - len(read), dtype=torch.bool)])
        pieces = torch.split(kept, [count for _, count in self.parts] or len(kept))
        parts = tuple((name, int(p.sum())) for (name, _), p in zip(self.parts, pieces, strict=False))
        told = f"{missing} of {len(self.labels)} could not be read in the suspect, and are no trials"
        caveats = (*self.caveats, told)
        return replace(self, labels=self.labels[kept], parts=parts, caveats=caveats), answers[read]


@dataclass(frozen=True)
class Observation:
    """Answers to the first of a key's trials, and what they are worth.

    Attributes:
        trials: all that the key has.
        answers: int64 ``(m,)``, m at most n; see :meth:`Trials.readable` for what could not be read.
        alpha: level of the test.
        survives: share of trials that a derived model still matches, as the method's card says.
        committed: whether the key was fixed in time.
        p_value: of a sequential test; by default the exact binomial tail.
    """

    trials: Trials = field(repr=False)
    answers: Tensor = field(repr=False)
    alpha: float
    survives: float
    committed: bool
    p_value: float | None = None

    @property
    def count(self) -> int:
        """Trials that were answered."""
        return len(self.answers)

    @property
    def matches(self) -> int:
        """Trials that were answered as the key expects."""
        return int((self.answers == self.trials.labels[: self.count]).sum())

    def parts(self) -> tuple[tuple[str, int, int], ...]:
        """Name, matches and answered trials of each part that was asked about."""
        right = (self.answers == self.trials.labels[: self.count]).long()
        pieces = torch.split(right, _answered([count for _, count in self.trials.parts], self.count))
        return tuple(
            (name, int(piece.sum()), len(piece))
            for (name, _), piece in zip(self.trials.parts, pieces, strict=False)
            if len(piece)
        )

    @property
    def allowance(self) -> float:
        """How many secrets the claimant could have tried."""
        return max(self.trials.tried, 1.0 if self.committed else UNCOMMITTED)

    def chance(self) -> float:
        """The p-value before any adjustment."""
        if self.p_value is not None:
            return self.p_value
        return binomial_tail(self.matches, self.count, self.trials.rate)

    def given_answers(self) -> float:
        """P-value of the matches if answers were dealt to the trials at random."""
        return agreement_tail(self.matches, *_counts(self.trials.labels[: self.count], self.answers))

    def reachable(self) -> float:
        """Smallest adjusted p-value that a suspect could get which answers every trial as expected."""
        labels = self.trials.labels
        best = binomial_tail(len(labels), len(labels), self.trials.rate)
        return min(1.0, max(best, agreement_tail(len(labels), *_counts(labels, labels))) * self.allowance)

    def unlike_derived(self) -> bool:
        """Whether a model that keeps the surviving share would hardly ever have matched so few."""
        return binomial_tail(self.count - self.matches, self.count, 1 - self.survives) <= MISSED

    def detectable(self) -> bool:
        """Whether the test finds a model that keeps the surviving share almost surely."""
        power = detection(len(self.trials.labels), self.trials.rate, self.alpha, self.survives)
        return power >= 1 - MISSED

    def decide(self) -> tuple[Decision, str, float, float | None]:
        """Decision, reason, adjusted p-value and the p-value given the answers."""
        if self.reachable() > self.alpha:
            return Decision.INCONCLUSIVE, self._too_few(), 1.0, None
        chance = self.chance()
        adjusted, given = min(1.0, chance * self.allowance), None
        if adjusted <= self.alpha:
            given = self.given_answers()
            adjusted = min(1.0, max(chance, given) * self.allowance)
        if adjusted <= self.alpha:
            return Decision.MATCH, f"{self.matches} of {self.count} secret answers", adjusted, given
        if given is not None and given > math.sqrt(self.alpha):
            reason = "so many matches follow from how often the suspect gives each answer"
        elif chance <= self.alpha and not self.committed:
            reason = "chance is ruled out only if the key's commitment was published before: hand it in"
        elif chance <= math.sqrt(self.alpha):
            reason = "more matches than chance gives, fewer than the level asks for"
        elif self.detectable() and self.unlike_derived():
            return Decision.NO_MATCH, f"{self.matches} of {self.count} secret answers", adjusted, given
        else:
            reason = self._too_few()
        return Decision.INCONCLUSIVE, reason, adjusted, given

    def _too_few(self) -> str:
        if self.survives <= self.trials.rate:
            return "what survives of this mark cannot be told from chance"
        reached, have = self.reachable() <= self.alpha, len(self.trials.labels)
        level = self.alpha if reached else self.alpha / self.allowance
        needed = trials_needed(self.trials.rate, level, self.survives, 1 - MISSED)
        if needed > have:
            return f"{have} trials are too few to decide: {needed} are needed, so {needed - have} are missing"
        if not reached:
            return "the key's answers vary too little to tell a match from a constant answer"
        return f"{self.matches} matches in {self.count} trials fit neither chance nor a derived model"


def _counts(first: Tensor, second: Tensor) -> tuple[list[int], list[int]]:
    """How often each answer occurs on either side; -1, no answer, counts as one of its own."""
    size = 2 + max([-1, *(int(t.max()) for t in (first, second) if len(t))])
    return tuple(torch.bincount(t + 1, minlength=size).tolist() for t in (first, second))  # type: ignore[return-value]


def _answered(counts: list[int], answered: int) -> list[int]:
    """How many of the first ``answered`` trials fall into each part; what is in no part comes last."""
    sizes = []
    for count in counts:
        sizes.append(min(count, answered))
        answered -= sizes[-1]
    return [*sizes, answered]
