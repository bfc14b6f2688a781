"""Whose copy is it? One suspect, the keys of all customers' copies, and at most one name."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from freehold.errors import FreeholdError, ModelError, UsageError
from freehold.keys import Key
from freehold.ownership.base import OwnershipMethod, method_of
from freehold.ownership.observation import Decision
from freehold.ownership.record import Replayed, questions
from freehold.ownership.suspect import Suspect
from freehold.ownership.verdict import Verdict, several
from freehold.plugin import Access

logger = logging.getLogger(__name__)
TOGETHER = 16  # copies whose questions are held in memory and put in one go


class Copy(BaseModel):
    """What a suspect makes of one customer's key.

    Attributes:
        customer: whose copy the key marks.
        verdict: on the suspect, corrected for the number of customers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    customer: str
    verdict: Verdict


class Trace(BaseModel):
    """The answer to "whose copy does this suspect come from?".

    Attributes:
        decision: MATCH if exactly one customer's mark was found; NO_MATCH if none was and each would have
            been; INCONCLUSIVE else, also if two were.
        reason: one sentence.
        suspect: its name.
        customer: the one whose copy it is, empty unless MATCH.
        copies: of all customers that it was asked about, the likeliest first.
        left_out: customers whose copies are of another kind of model, and why.
        queries: images it was asked about, for all customers together.
        alpha: largest chance of any customer being named if the suspect comes from no copy.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    decision: Decision
    reason: str
    suspect: str
    customer: str
    copies: tuple[Copy, ...]
    left_out: tuple[tuple[str, str], ...]
    queries: int
    alpha: float


def trace(
    suspect: Suspect, keys: Mapping[str, Key], *, alpha: float = 1e-6, commitments: Iterable[str] = ()
) -> Trace:
    """Put a suspect to the keys of all customers' copies.

    Each key's answers are drawn independently, so that a copy says no more about another customer's key
    than an innocent model does. Over the customers p-values are corrected by Holm: whatever the suspect is,
    the chance that a customer is named whose copy it does not come from is at most ``alpha``.

    Args:
        suspect: see :func:`~freehold.ownership.suspect.suspect`.
        keys: of each customer's copy, as :meth:`freehold.keys.Vault.keys` gives them.
        alpha: in (0, 0.05].
        commitments: those published before the copies were handed over; a key whose commitment is not
            among them counts as one of 2**64 that could have been tried.

    Raises:
        UsageError: no keys, or alpha out of range.
        ModelError: the suspect is of another kind than every copy.
        SuspectError: it does not answer; nothing is then concluded.
    """
    if not keys:
        raise UsageError(
            "there are no copies to compare with",
            where="keys",
            fix="mark copies with 'freehold watermark --customer'",
        )
    published, asked = {text.strip().lower() for text in commitments}, suspect.queries
    methods, left_out = _fitting(suspect, keys)
    verdicts: list[Verdict] = []
    names = list(methods)
    for start in range(0, len(names), TOGETHER):
        for name, one in _answered(
            suspect, {n: (methods[n], keys[n]) for n in names[start : start + TOGETHER]}
        ):
            key = keys[name]
            committed = key.commitment if key.commitment in published else None
            verdicts.append(methods[name].verify(one, key, alpha=alpha, commitment=committed))
    copies = [
        Copy(customer=name, verdict=verdict)
        for name, verdict in zip(names, several(verdicts, alpha), strict=True)
    ]
    copies.sort(key=lambda copy: (copy.verdict.p_adjusted, copy.verdict.p_value))
    decision, reason = _judge(copies)
    found = Trace(
        decision=decision,
        reason=reason,
        suspect=suspect.name,
        customer=copies[0].customer if decision == Decision.MATCH else "",
        copies=tuple(copies),
        left_out=tuple(left_out.items()),
        queries=suspect.queries - asked,
        alpha=alpha,
    )
    logger.info("%s: %s, %s", suspect.name, decision, reason)
    return found


def _fitting(suspect: Suspect, keys: Mapping[str, Key]) -> tuple[dict[str, OwnershipMethod], dict[str, str]]:
    """The methods by customer, and the customers whose copies the suspect cannot come from."""
    methods: dict[str, OwnershipMethod] = {}
    left_out: dict[str, str] = {}
    fault: FreeholdError | None = None
    for name, key in keys.items():
        method = method_of(key)
        try:
            method.check(suspect, key)
        except (ModelError, UsageError) as error:
            left_out[name], fault = error.what, error
        else:
            methods[name] = method
    if fault is not None and not methods:
        raise fault
    return methods, left_out


def _answered(
    suspect: Suspect, group: Mapping[str, tuple[OwnershipMethod, Key]]
) -> list[tuple[str, Suspect]]:
    """Who answers for the suspect: for methods that ask for labels, it itself to all of them at once."""
    asked: dict[str, Tensor] = {
        name: questions(method, key)
        for name, (method, key) in group.items()
        if method.access == Access.LABELS
    }
    labels = suspect.labels(torch.cat(list(asked.values()))) if asked else torch.empty(0)
    parts = dict(zip(asked, torch.split(labels, [len(images) for images in asked.values()]), strict=True))
    known = suspect.name, suspect.input, suspect.num_classes, Access.LABELS
    return [(name, Replayed(*known, parts[name], {}) if name in parts else suspect) for name in group]


def _judge(copies: list[Copy]) -> tuple[Decision, str]:
    decisions = [copy.verdict.decision for copy in copies]
    found = [copy.customer for copy in copies if copy.verdict.decision == Decision.MATCH]
    if len(found) == 1:
        return Decision.MATCH, f"of {len(copies)} customers' marks it carries that of {found[0]!r} alone"
    if found:
        named = ", ".join(map(repr, found))
        return (
            Decision.INCONCLUSIVE,
            f"it carries the marks of {named}: a mixture of copies, or a copy marked twice",
        )
    if all(decision == Decision.NO_MATCH for decision in decisions):
        return Decision.NO_MATCH, f"it carries none of {len(copies)} customers' marks"
    undecided = decisions.count(Decision.INCONCLUSIVE)
    return (
        Decision.INCONCLUSIVE,
        f"no customer's mark reaches the level, and {undecided} of {len(copies)} cannot be ruled out",
    )
