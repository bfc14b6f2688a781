"""A verdict: what was observed, how likely chance is, and what that allows to say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from freehold.ownership.observation import Decision, Observation
from freehold.plugin import Access
from freehold.statistics import clopper_pearson, holm

EVIDENCE = (
    "statistical evidence that the suspect's answers depend on the secret of this key; "
    "how that came about is for others to judge"
)
ABSENCE = (
    "no match is no proof of innocence: a mark can be taken out, and a model can be learned from answers"
)


class Verdict(BaseModel):
    """The answer to "does this suspect carry that key?", with all that it rests on.

    Attributes:
        decision: MATCH, NO_MATCH or INCONCLUSIVE.
        reason: one sentence: why, and what is missing where it is inconclusive.
        suspect: its name.
        method: that the key belongs to.
        owner: the name in the key.
        commitment: of the key.
        committed: whether that is the commitment that was handed in to be compared.
        matches: the statistic: trials in which the suspect gave the secret answer.
        trials: n.
        rate: chance of a match under the null.
        null: exact or measured.
        why: where the rate comes from.
        p_value: chance of so many matches for an innocent suspect; of a sequential test, at any time.
        p_given_answers: the same if how often each answer was given is taken as known; None if not asked.
        p_adjusted: the larger of both, times the secrets that could have been tried, after Holm's
            correction if there were several; this is compared with ``alpha``.
        alpha: level of the test.
        reachable: smallest ``p_adjusted`` that these trials allow.
        low: lower end of the exact 95 % interval of the match rate.
        high: upper end.
        access: what the method used of the suspect.
        queries: images the suspect was asked about.
        sequential: whether the test could stop early.
        failure: why the suspect could not be asked to the end; empty if it was.
        caveats: what a reader must know.
        parts: name, matches and trials of each part of the trials, e.g. of each layer; may be empty.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    decision: Decision
    reason: str
    suspect: str
    method: str
    owner: str
    commitment: str
    committed: bool
    matches: int
    trials: int
    rate: float
    null: Literal["exact", "measured"]
    why: str
    p_value: float
    p_given_answers: float | None
    p_adjusted: float
    alpha: float
    reachable: float
    low: float
    high: float
    access: str
    queries: int
    sequential: bool
    failure: str = ""
    caveats: tuple[str, ...]
    parts: tuple[tuple[str, int, int], ...] = ()


def several(verdicts: Sequence[Verdict], alpha: float) -> list[Verdict]:
    """Verdicts on several suspects or keys, corrected by Holm: the chance of any false MATCH stays alpha.

    Args:
        verdicts: each at ``alpha``, or at a share of it.
        alpha: of all together.
    """
    corrected = []
    for verdict, p in zip(verdicts, holm([v.p_adjusted for v in verdicts]), strict=True):
        change: dict[str, object] = {"p_adjusted": p, "alpha": alpha}
        if verdict.decision == Decision.MATCH and p > alpha:
            reason = f"would match alone, but not as one of {len(verdicts)} that were tried"
            change |= {"decision": Decision.INCONCLUSIVE, "reason": reason}
        corrected.append(verdict.model_copy(update=change))
    return corrected


def verdict_on(
    observed: Observation,
    *,
    suspect: str,
    key: tuple[str, str, str],
    access: Access,
    queries: int,
    failure: str = "",
) -> Verdict:
    """Put an observation into words.

    Args:
        observed: what was observed.
        suspect: its name.
        key: method, owner and commitment.
        access: what was used of the suspect.
        queries: images it was asked about.
        failure: why the observation broke off, if it did: nothing is then concluded.
    """
    decision, reason, adjusted, given = observed.decide()
    if failure:
        decision, reason, adjusted, given = Decision.INCONCLUSIVE, failure, 1.0, None
    count, matches, trials = observed.count, observed.matches, observed.trials
    caveats = [EVIDENCE if decision == Decision.MATCH else ABSENCE, *trials.caveats]
    if trials.null == "measured":
        caveats.append("the chance of a match was measured on innocent models, not derived")
    if not observed.committed:
        caveats.append("no earlier commitment was compared: the p-value counts 2^64 times")
    elif trials.tried > 1:
        caveats.append("what was committed to could be varied before: the p-value counts 2^64 times")
    low, high = clopper_pearson(matches, count) if count else (0.0, 1.0)
    method, owner, commitment = key
    return Verdict(
        decision=decision,
        reason=reason,
        suspect=suspect,
        method=method,
        owner=owner,
        commitment=commitment,
        committed=observed.committed,
        matches=matches,
        trials=count,
        rate=trials.rate,
        null=trials.null,
        why=trials.why,
        p_value=1.0 if failure else observed.chance(),
        p_given_answers=given,
        p_adjusted=adjusted,
        alpha=observed.alpha,
        reachable=observed.reachable(),
        low=low,
        high=high,
        access=access.name.lower(),
        queries=queries,
        sequential=observed.p_value is not None,
        failure=failure,
        caveats=tuple(caveats),
        parts=observed.parts(),
    )
