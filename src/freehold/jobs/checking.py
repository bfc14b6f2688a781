"""``freehold check``: what a claim or a bundle of evidence establishes, link by link."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freehold import report
from freehold.errors import MissingInputError, UsageError
from freehold.evidence.check import Checked, Known, Link, State, check_bundle, check_claim, worst
from freehold.evidence.claim import Signed, read_file
from freehold.evidence.signature import key_id

if TYPE_CHECKING:
    from freehold.ownership.verdict import Verdict

# What a bundle's page and every check say, since readers take a match for more than it is.
UNSHOWN = (
    "That anybody did wrong. A match is evidence of derivation: that the suspect was made from the marked "
    "model, or by somebody who held the key. How that came about is for others to judge.",
    "Who came first, unless a time stamp shows the claim to be older than the suspect.",
    "That the recorded answers are the suspect's own: ask it again, or trust who signed for the record.",
    "How many other suspects or keys were tried before this one.",
    "That a suspect without a match is innocent: a mark can be taken out.",
)


@dataclass(frozen=True)
class CheckReport:
    """What was established.

    Attributes:
        claim: that it is about.
        checked: its links, and the verdict of a bundle.
        page: the page about them, if one was written.
    """

    claim: Signed
    checked: Checked
    page: Path | None = None

    @property
    def concluded(self) -> Verdict | None:
        """The recomputed verdict; None if there is none, or a link fails that it rests on."""
        return None if worst(self.checked.links) == State.FAILS else self.checked.verdict

    @property
    def state(self) -> State:
        """HOLDS if every link does and a bundle's verdict is a match, FAILS if one does or it is no match."""
        state, verdict = worst(self.checked.links), self.checked.verdict
        if verdict is None or state == State.FAILS or verdict.decision == "MATCH":
            return state
        return State.FAILS if verdict.decision == "NO_MATCH" else State.OPEN

    def to_json(self) -> dict[str, Any]:
        """As JSON-able data."""
        terms, verdict = self.claim.claim.predicate, self.concluded
        return {
            "state": self.state.value,
            "links": {
                link.name: {"state": link.state.value, "says": link.says} for link in self.checked.links
            },
            "verdict": None if verdict is None else verdict.model_dump(mode="json"),
            "claim": {
                "digest": self.claim.digest,
                "owner": terms.owner,
                "method": terms.method,
                "commitment": terms.commitment,
                "signer": key_id(self.claim.signer),
            },
            "page": str(self.page) if self.page else None,
        }


def check(
    path: str | Path,
    known: Known,
    *,
    suspect: str | None = None,
    uri: str | None = None,
    page: str | Path | None = None,
) -> CheckReport:
    """Check a claim or a bundle of evidence, whichever ``path`` holds.

    Args:
        path: the file.
        known: what the reader knows from elsewhere.
        suspect: to be asked again: a folder, an ``.onnx`` file or an address; of a bundle only.
        uri: allows folders whose model the user's own code builds, as ``package.module:factory``.
        page: write a page about what was found; of a bundle only.

    Raises:
        ArtifactError: the file is neither, damaged, or its signature does not hold.
        FreeholdError: the suspect cannot be opened; an extra is needed and not installed.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            archive = file.read(2) == b"PK"
    except OSError as error:
        raise MissingInputError(f"cannot be read: {error.strerror}", where=str(path)) from None
    if not archive:
        if suspect or page:
            raise UsageError(
                "a claim alone says nothing about a suspect", where=str(path), fix="name a bundle"
            )
        claim = read_file(path)
        return CheckReport(claim, Checked(check_claim(claim, known), None))
    from freehold.evidence.bundle import read_bundle

    bundle = read_bundle(path)
    one, digest = None, None
    if suspect is not None:
        from freehold.evidence.replay import marked_method
        from freehold.jobs.bundling import identity_of
        from freehold.jobs.verifying import open_suspect

        _, digest = identity_of(suspect)
        one = open_suspect(suspect, bundle.key, marked_method(bundle.key), classes=None, uri=uri)
    checked = check_bundle(bundle, known, one, digest=digest)
    found = CheckReport(bundle.claim, checked)
    if page is None:
        return found
    return replace(found, page=report.write_page(checked_page(found, path.name), page))


def checked_page(found: CheckReport, name: str) -> report.PageData:
    """What was established, for a reader who is no engineer; nothing of a verdict on which a link fails.

    Args:
        found: of a bundle.
        name: of the file.
    """
    from freehold.jobs.verifying import in_words, method_card, verdict_page
    from freehold.protection import versions

    verdict, said = found.concluded, sentence(found.checked.links)
    steps = [report.Step(link.name, link.state.value, link.says) for link in found.checked.links]
    if verdict is not None:
        shown = verdict_page([verdict])
        return replace(shown, summary=[in_words(verdict), said], steps=steps, unshown=UNSHOWN)
    terms = found.claim.claim.predicate
    return report.PageData(
        title=f"{name}: nothing is established",
        summary=[said],
        method=terms.method,
        card=method_card(terms.method),
        parameters={},
        steps=steps,
        unshown=UNSHOWN,
        versions=versions(),
    )


def sentence(links: tuple[Link, ...]) -> str:
    """How many links hold, and which do not."""
    held = sum(link.state == State.HOLDS for link in links)
    words = [f"{held} of {len(links)} links hold"]
    for state, word, plural in ((State.FAILS, "fails", "fail"), (State.OPEN, "is open", "are open")):
        names = [link.name for link in links if link.state == state]
        if names:
            words.append(f"{', '.join(names)} {word if len(names) == 1 else plural}")
    return "; ".join(words) + "."
