"""The bundle that ``freehold verify`` writes on a match."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from freehold.artifacts import file_hash
from freehold.errors import OutputError, UsageError
from freehold.evidence.bundle_writing import write_bundle
from freehold.evidence.claim import Signed
from freehold.keys import Key
from freehold.models.checkpoint import MODEL
from freehold.models.weights import read_safetensors, state_hash
from freehold.ownership.base import method_of
from freehold.ownership.record import Recorded
from freehold.ownership.verdict import Verdict
from freehold.report import PageData, render_page

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

CHECK = (
    "This page is for reading and proves nothing by itself: 'freehold check' computes everything again from "
    "the bundle that it came in."
)


def may_bundle(path: Path, suspects: int, claim: Signed | None) -> None:
    """Refuse, before any query, a bundle that could not be written."""
    if claim is None:
        raise UsageError("evidence starts with a claim", where="--bundle", fix="give --claim as well")
    if suspects != 1:
        raise UsageError("a bundle is about one suspect", where="--bundle", fix="name one at a time")
    if path.exists():
        raise OutputError("there is a file already", where=str(path), fix="choose another name")


def identity_of(text: str) -> tuple[Literal["folder", "file", "address"], str | None]:
    """Kind of a suspect and what it can be known by: of a folder the hash of its weights as tensors."""
    if "://" in text:
        return "address", None
    path = Path(text)
    return (
        ("folder", state_hash(read_safetensors(path / MODEL)[0]))
        if path.is_dir()
        else ("file", file_hash(path))
    )


def write(
    path: str | Path,
    claim: Signed,
    key: Key,
    asked: Recorded,
    verdict: Verdict,
    suspect: str,
    page: PageData,
    examiner: Ed25519PrivateKey | None,
) -> None:
    """Write the bundle.

    Args:
        path: of the new file.
        claim: on the marked model.
        key: of it, which the bundle holds in the open.
        asked: the suspect, which recorded what it was asked.
        verdict: on it.
        suspect: as the user named it.
        page: for people.
        examiner: who asked, and signs for it.

    Raises:
        OutputError: it would be too large, or cannot be written.
    """
    kind, digest = identity_of(suspect)
    write_bundle(
        path,
        claim.envelope.to_bytes(),
        key,
        asked,
        verdict,
        method_of(key).exhibits(key),
        kind=kind,
        digest=digest,
        page=render_page(page).encode(),
        signer=examiner,
    )
