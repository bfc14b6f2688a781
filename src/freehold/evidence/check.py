"""What a stranger can establish from a claim or a bundle: link by link, everything recomputed.

A link *holds*, *fails*, or is *open*: then something is missing that only the reader can add, such as
the signer's public key or the suspect itself. Nothing that was not checked counts as holding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from freehold.artifacts.files import file_hash
from freehold.errors import ArtifactError
from freehold.evidence import timestamp
from freehold.evidence.claim import Signed
from freehold.evidence.signature import key_id

if TYPE_CHECKING:
    from freehold.evidence.bundle import Bundle
    from freehold.ownership.suspect import Suspect
    from freehold.ownership.verdict import Verdict

_ROUNDING = 1e-9  # by which p-values of two versions of a library may differ


class State(StrEnum):
    """What was found out about a link."""

    HOLDS = "holds"
    FAILS = "fails"
    OPEN = "open"


@dataclass(frozen=True)
class Link:
    """One step from a published claim to a verdict.

    Attributes:
        name: of the link.
        state: whether it holds.
        says: one sentence.
    """

    name: str
    state: State
    says: str


@dataclass(frozen=True)
class Known:
    """What a reader knows from elsewhere, and need not take from whoever made the claim.

    Attributes:
        signer: public key of the owner, 32 bytes.
        roots: certificates in PEM of the time-stamp authority.
        before: the claim has to be shown to be older than this.
        release: folder of the released model.
        examiner: public key of who asked the suspect, 32 bytes.
    """

    signer: bytes | None = None
    roots: bytes | None = None
    before: datetime | None = None
    release: Path | None = None
    examiner: bytes | None = None


@dataclass(frozen=True)
class Checked:
    """The links of a bundle, and the verdict that was recomputed, if it could be.

    Attributes:
        links: in order.
        verdict: as recomputed; None if it could not be.
    """

    links: tuple[Link, ...]
    verdict: Verdict | None


def check_claim(claim: Signed, known: Known) -> tuple[Link, ...]:
    """Signature, time and digests of a claim that was read.

    Raises:
        MissingDependencyError: there is a time stamp, and the extra ``[sign]`` is not installed.
    """
    return _signature(claim, known), _time(claim, known), _digest(claim, known)


def check_bundle(
    bundle: Bundle, known: Known, suspect: Suspect | None = None, *, digest: str | None = None
) -> Checked:
    """Recompute everything that a bundle says.

    Args:
        bundle: as it was read.
        known: what the reader knows from elsewhere.
        suspect: to be asked again.
        digest: what that suspect can be known by, if anything.

    Raises:
        MissingDependencyError: there is a time stamp, and the extra ``[sign]`` is not installed.
    """
    from freehold.evidence.replay import asked_again, replayed

    links = [*check_claim(bundle.claim, known), _commitment(bundle)]
    found = replayed(bundle)
    again = None if suspect is None else asked_again(bundle, suspect, digest)
    verdict = found.verdict if found.verdict is not None or again is None else again.verdict
    links.append(Link("derivation", State(found.derivation), found.derived))
    links.append(_statistics(bundle, verdict, found.fault or (again.fault if again else "")))
    links.append(
        _answers(bundle, known) if again is None else Link("answers", State(again.state), again.says)
    )
    return Checked(tuple(links), verdict)


def worst(links: Sequence[Link]) -> State:
    """Whether all links hold: FAILS if one does, else OPEN if one is."""
    found = {link.state for link in links}
    return next(state for state in (State.FAILS, State.OPEN, State.HOLDS) if state in found)


def _signature(claim: Signed, known: Known) -> Link:
    by = f"signed by the key {key_id(claim.signer)}"
    if known.signer is None:
        what = f"{by}, which the claim itself names: get the owner's public key from elsewhere (--signer)"
        return Link("signature", State.OPEN, what)
    if known.signer != claim.signer:
        return Link("signature", State.FAILS, f"{by}, not by the one you named")
    return Link("signature", State.HOLDS, f"{by}, the one you named")


def _time(claim: Signed, known: Known) -> Link:
    reply, where = claim.envelope.reply, "time stamp"
    if reply is None:
        what = "no time stamp: whoever relies on the claim has to show otherwise when it was published"
        return Link("time", State.OPEN, what)
    try:
        if known.roots is None:
            moment = timestamp.stamped_at(reply, claim.envelope.signature, where=where)
            what = f"stamped {_date(moment)} by an authority that is not known here (--tsa-root)"
            return Link("time", State.OPEN, what)
        moment = timestamp.shown_at(reply, claim.envelope.signature, known.roots, where=where)
    except ArtifactError as error:
        return Link("time", State.FAILS, error.what)
    if known.before is not None and moment >= known.before:
        what = f"shown to exist only from {_date(moment)}, not before {_date(known.before)}"
        return Link("time", State.FAILS, what)
    return Link("time", State.HOLDS, f"existed {_date(moment)}, on the word of the authority you named")


def _digest(claim: Signed, known: Known) -> Link:
    files = claim.claim.files
    if known.release is None:
        what = f"{len(files)} released files are named by their digests; none is at hand (--release)"
        return Link("digest", State.OPEN, what)
    for name, digest in files.items():
        path = known.release / name
        try:
            same = not path.is_symlink() and file_hash(path) == digest
        except OSError:
            return Link("digest", State.FAILS, f"{name} is not there")
        if not same:
            return Link("digest", State.FAILS, f"{name} is not the file that was claimed")
    return Link("digest", State.HOLDS, f"all {len(files)} released files are those that were claimed")


def _commitment(bundle: Bundle) -> Link:
    key, terms = bundle.key, bundle.claim.claim.predicate
    faults = {
        "the key is not the one that the claim commits to": key.commitment != terms.commitment,
        "the key is bound to other weights than were claimed": key.facts.get("released") != terms.state,
        "the key is of another owner": key.owner != terms.owner,
        "the key is of another method": key.method != terms.method,
        "the key was made with other settings": dict(key.settings) != terms.settings,
    }
    fault = next((text for text, found in faults.items() if found), None)
    if fault:
        return Link("commitment", State.FAILS, fault)
    return Link(
        "commitment", State.HOLDS, "the key hashes to what was claimed, and is bound to those weights"
    )


def _statistics(bundle: Bundle, found: Verdict | None, fault: str) -> Link:
    test, said = bundle.claim.claim.predicate.test, bundle.case.predicate.verdict
    if fault:
        return Link("statistics", State.FAILS, f"cannot be recomputed: {fault}")
    if found is None:
        what = "the suspect's weights are not in the bundle: ask it again (--suspect)"
        return Link("statistics", State.OPEN, what)
    if said.alpha > test.alpha or (said.null, said.rate) != (test.null, test.rate):
        return Link("statistics", State.FAILS, "another test than was claimed beforehand")
    if said.suspect != bundle.case.predicate.suspect.name:
        return Link("statistics", State.FAILS, "the verdict is on another suspect")
    if different := _different(said, found):
        return Link("statistics", State.FAILS, f"the verdict says otherwise: {different}")
    what = f"{found.matches} of {found.trials}, p and decision recomputed from labels and answers"
    return Link("statistics", State.HOLDS, what)


def _different(said: Verdict, found: Verdict) -> str:
    """The first field in which two verdicts differ."""
    own = found.model_dump()
    for name, value in said.model_dump().items():
        close = isinstance(value, float) and isinstance(own[name], float)
        if value != own[name] and not (close and math.isclose(value, own[name], rel_tol=_ROUNDING)):
            return f"{name} is {str(own[name])[:60]!r}, not {str(value)[:60]!r}"
    return ""


def _answers(bundle: Bundle, known: Known) -> Link:
    record = bundle.record
    if known.examiner is not None:
        if record is None or not record.signed_by(known.examiner):
            return Link("answers", State.FAILS, "the record is not signed by the examiner you named")
        return Link("answers", State.HOLDS, "as recorded by the examiner you named, who signed for it")
    by = "nobody signed for it" if record is None else f"signed by the key {record.signatures[0].keyid}"
    what = f"as the maker of the bundle recorded, {by}: ask the suspect again (--suspect) or name an examiner"
    return Link("answers", State.OPEN, what)


def _date(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
