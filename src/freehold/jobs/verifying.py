"""``freehold verify``: suspects against a key, the verdicts, and the page that shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freehold import report
from freehold.artifacts import verify_run
from freehold.artifacts.manifest import MANIFEST
from freehold.data.inputs import InputSpec
from freehold.errors import MissingInputError, UsageError
from freehold.evidence.claim import read_file
from freehold.jobs import bundling
from freehold.jobs.assembly import load_shipped
from freehold.jobs.checking import UNSHOWN
from freehold.keys import Key
from freehold.models.checkpoint import RECIPE
from freehold.ownership.base import OwnershipMethod, level_of_each, method_of
from freehold.ownership.observation import Decision
from freehold.ownership.record import Recorded
from freehold.ownership.suspect import ModuleSuspect, Suspect, suspect
from freehold.ownership.verdict import Verdict, several
from freehold.plugin import Access, find
from freehold.protection import versions
from freehold.report import write_page
from freehold.report.numbers import odds
from freehold.statistics import binomial_masses, matches_needed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


@dataclass(frozen=True)
class VerifyReport:
    """Verdicts on one or several suspects, corrected for their number.

    Attributes:
        verdicts: in the order in which the suspects were named.
        page: the page about them, if one was written.
        bundle: the evidence, if there was a match and it was asked for.
    """

    verdicts: tuple[Verdict, ...]
    page: Path | None
    bundle: Path | None = None

    @property
    def decision(self) -> Decision:
        """MATCH if any suspect matches; NO_MATCH if none does and every case is clear."""
        found = {verdict.decision for verdict in self.verdicts}
        order = (Decision.MATCH, Decision.INCONCLUSIVE, Decision.NO_MATCH)
        return next(decision for decision in order if decision in found)

    def to_json(self) -> dict[str, Any]:
        """As JSON-able data."""
        return {
            "decision": self.decision.value,
            "verdicts": [verdict.model_dump(mode="json") for verdict in self.verdicts],
            "page": str(self.page) if self.page else None,
            "bundle": str(self.bundle) if self.bundle else None,
        }


def verify(
    suspects: Sequence[str | Path],
    key: Key,
    *,
    alpha: float | None = None,
    commitment: str | None = None,
    claim: str | Path | None = None,
    sequential: bool = False,
    classes: int | None = None,
    uri: str | None = None,
    page: str | Path | None = None,
    bundle: str | Path | None = None,
    examiner: Ed25519PrivateKey | None = None,
    contact: Mapping[str, Any] | None = None,
) -> VerifyReport:
    """Put suspects to the trials of ``key``.

    Args:
        suspects: run or checkpoint folders, ``.onnx`` files, ``http(s)://`` addresses; at least one.
        key: of the marked model.
        alpha: largest chance of any false MATCH; what the claim says, or 1e-6.
        commitment: of the key, as it was published before the release.
        claim: file that holds it, with the level.
        sequential: stop asking as soon as a case is clear.
        classes: that the suspects tell apart; by default as many as the marked model.
        uri: allows folders whose model the user's own code builds, as ``package.module:factory``.
        page: write a page about the verdicts.
        bundle: on a match, write all the evidence here, the key in the open; needs a claim, and one suspect.
        examiner: signs that bundle, as who asked.
        contact: options of :class:`~freehold.ownership.endpoint.EndpointSuspect` for addresses.

    Raises:
        FreeholdError: a suspect that is not there or does not fit, a key that is not the one committed to.
    """
    if not suspects:
        raise UsageError("nobody is suspected", where="suspect", fix="name a folder, a file or an address")
    signed = None if claim is None else read_file(claim)
    if signed is not None:
        if commitment is not None or alpha is not None:
            raise UsageError("level and commitment stand in the claim", where="--claim", fix="give it alone")
        commitment = signed.claim.predicate.commitment
        alpha = signed.claim.predicate.test.alpha
    if bundle is not None:
        bundling.may_bundle(Path(bundle), len(suspects), signed)
    level = 1e-6 if alpha is None else alpha
    method = method_of(key)
    opened = [open_suspect(str(s), key, method, classes=classes, uri=uri, **contact or {}) for s in suspects]
    for one in opened:
        method.check(one, key, commitment)
    asked = [Recorded(one) for one in opened] if bundle is not None else opened
    each = level_of_each(level, len(asked), sequential)
    verdicts = [
        method.verify(one, key, alpha=each, commitment=commitment, sequential=sequential) for one in asked
    ]
    found = tuple(several(verdicts, level)) if len(verdicts) > 1 else tuple(verdicts)
    written = write_page(verdict_page(found), page) if page is not None else None
    if bundle is None or found[0].decision != Decision.MATCH:
        return VerifyReport(found, written)
    assert signed is not None and isinstance(asked[0], Recorded)  # may_bundle
    shown = replace(verdict_page(found), summary=[in_words(found[0]), bundling.CHECK], unshown=UNSHOWN)
    bundling.write(bundle, signed, key, asked[0], found[0], str(suspects[0]), shown, examiner)
    return VerifyReport(found, written, Path(bundle))


def open_suspect(
    text: str, key: Key, method: OwnershipMethod, *, classes: int | None, uri: str | None, **contact: Any
) -> Suspect:
    """The suspect that ``text`` names; what it takes as input is what the marked model takes, or its recipe.

    Raises:
        FreeholdError: as :func:`freehold.ownership.suspect.suspect`.
    """
    spec, path = InputSpec(**key.facts["input"]), Path(text)
    found: Suspect
    if "://" in text:
        found = suspect(text, input=spec, num_classes=classes or key.facts["num_classes"], **contact)
    elif path.suffix == ".onnx":
        found = suspect(path, input=spec, num_classes=classes)
    else:
        if not path.is_dir():
            raise (UsageError if path.exists() else MissingInputError)(
                "is no suspect" if path.exists() else "there is no such suspect",
                where=text,
                fix="name a run or checkpoint folder, an .onnx file or an http(s) address",
            )
        if (path / MANIFEST).exists():
            verify_run(path)
        if not (path / RECIPE).exists():
            raise MissingInputError("holds no model", where=text, fix="name a run or checkpoint folder")
        model, recipe = load_shipped(path, uri)
        found = ModuleSuspect(model, recipe.input, name=path.name or text)
        if classes not in (None, found.num_classes):
            raise UsageError(f"tells {found.num_classes} classes apart, not {classes}", where=text)
    if found.access < method.access:
        raise UsageError(
            f"{method.name} needs {method.access.name.lower()}, and it shows {found.access.name.lower()}",
            where=text,
            fix=f"get hold of its {Access.WEIGHTS.name.lower()}, or ask by a key of a trigger method",
        )
    return found


def evidence(verdict: Verdict) -> report.Evidence:
    """A verdict as a page shows it."""
    trials, level = verdict.trials, verdict.alpha / (1.0 if verdict.committed else 2.0**64)
    return report.Evidence(
        suspect=verdict.suspect,
        decision=verdict.decision.value,
        reason=verdict.reason,
        matches=verdict.matches,
        trials=trials,
        rate=verdict.rate,
        masses=binomial_masses(trials, verdict.rate) if trials else (),
        needed=None if verdict.sequential else matches_needed(trials, verdict.rate, level),
        p_value=verdict.p_value,
        p_adjusted=verdict.p_adjusted,
        alpha=verdict.alpha,
        low=verdict.low,
        high=verdict.high,
        null=verdict.null,
        why=verdict.why,
        access=verdict.access,
        queries=verdict.queries,
        sequential=verdict.sequential,
        committed=verdict.committed,
        parts=[report.Part(*part) for part in verdict.parts],
    )


def in_words(verdict: Verdict) -> str:
    """One sentence for a reader who is no statistician."""
    suspect, counted = verdict.suspect, f"{verdict.matches} of {verdict.trials} secret answers"
    if verdict.failure:
        return f"{suspect} could not be asked to the end, so nothing is concluded: {verdict.failure}."
    if not verdict.trials:
        return f"{suspect} was asked nothing, so nothing is concluded: {verdict.reason}."
    if verdict.decision == Decision.MATCH:
        return (
            f"{suspect} gives {counted}; a model that has nothing to do with the key of "
            f"{verdict.owner or 'this owner'} does so {odds(verdict.p_value)}."
        )
    if verdict.decision == Decision.NO_MATCH:
        return (
            f"{suspect} gives {counted}, as chance alone does {odds(verdict.p_value)}: no trace of the key."
        )
    return f"{suspect} gives {counted}, and that decides nothing: {verdict.reason}."


def method_card(name: str) -> report.MethodCard:
    """What a page says of a method; of one that is not installed, its name."""
    try:
        return report.MethodCard(**find(name).card.model_dump())
    except UsageError:
        return report.MethodCard(title=name, paper="not installed here", venue="")


def verdict_page(verdicts: Sequence[Verdict]) -> report.PageData:
    """Everything on the page of some verdicts; of the key only what it is publicly known by."""
    first = verdicts[0]
    match = sum(verdict.decision == Decision.MATCH for verdict in verdicts)
    about = evidence(first).word.lower() if len(verdicts) == 1 else f"{match} of {len(verdicts)} match"
    named = first.suspect if len(verdicts) == 1 else "The suspects"
    caveats = dict.fromkeys(caveat for verdict in verdicts for caveat in verdict.caveats)
    return report.PageData(
        title=f"{named}: {about}",
        summary=[in_words(verdict) for verdict in verdicts],
        method=first.method,
        card=method_card(first.method),
        parameters={},
        evidence=[evidence(verdict) for verdict in verdicts],
        commitment=first.commitment,
        versions=versions(),
        notes=[caveat[0].upper() + caveat[1:] for caveat in caveats],
    )
