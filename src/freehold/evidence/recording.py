"""What a registry keeps of a file: of a claim all of it, of a case its digest and what was found."""

from __future__ import annotations

import re
from pathlib import Path

from freehold.errors import ArtifactError, MissingInputError, SecretError
from freehold.evidence.entry import Record
from freehold.keys import customers, vault

_SECRETS = re.compile(
    rb"PRIVATE KEY-----|OPENSSH PRIVATE|AGE-SECRET-KEY|"
    rb'"(secret|passphrase|password|private_?key|master)"\s*:',
    re.IGNORECASE,
)
_ARCHIVE = b"PK\3\4"
_LOOKED_AT = 1 << 20  # bytes in which a secret is looked for


def refuse_secrets(data: bytes, *, where: str) -> None:
    """See that ``data`` does not look like a key.

    Raises:
        SecretError: it is a key file, a vault's file, a private key in PEM or the opening of a key.
    """
    if data.startswith((vault.MAGIC, customers.MAGIC)) or _SECRETS.search(data):
        raise SecretError(
            "looks like a key, and a registry holds no secrets",
            where=where,
            fix="enter claims and bundles of evidence only",
        )


def record_of(path: str | Path) -> Record:
    """The record of a claim or of a bundle of evidence; both are checked, as far as they can be alone.

    Args:
        path: claim, or bundle. A bundle holds a key in the open: it stays where it is.

    Raises:
        MissingInputError: there is no such file.
        SecretError: it looks like a key.
        ArtifactError: neither, altered, or a bundle of which something does not hold.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(_LOOKED_AT)
    except OSError as error:
        raise MissingInputError(f"cannot be read: {error.strerror}", where=str(path)) from None
    if start.startswith(_ARCHIVE):
        return _case(path)
    refuse_secrets(start, where=str(path))
    return _claim(path)


def _claim(path: Path) -> Record:
    from freehold.evidence.claim import read
    from freehold.evidence.signature import key_id

    data = path.read_bytes()
    signed = read(data, where=str(path))
    terms = signed.claim.predicate
    about = {
        "owner": terms.owner,
        "method": terms.method,
        "commitment": terms.commitment,
        "release": terms.root,
        "weights": terms.state,
        "signer": key_id(signed.signer),
        "made": terms.made,
        "stamped": "yes" if signed.envelope.timestamp is not None else "no",
    }
    return Record(kind="claim", digest=signed.digest, about=about, body=data.decode("ascii"))


def _case(path: Path) -> Record:
    from freehold.artifacts.files import file_hash
    from freehold.evidence.bundle import read_bundle
    from freehold.evidence.check import Known, State, check_bundle

    bundle = read_bundle(path)
    links = check_bundle(bundle, Known()).links
    if failed := next((link for link in links if link.state == State.FAILS), None):
        raise ArtifactError(f"{failed.name} does not hold: {failed.says}", where=str(path))
    found = bundle.case.predicate
    about = {
        "owner": found.verdict.owner,
        "method": found.verdict.method,
        "commitment": found.verdict.commitment,
        "claim": bundle.claim.digest,
        "suspect": found.suspect.name,
        "suspect digest": found.suspect.digest or "",
        "decision": found.verdict.decision.value,
        "matches": f"{found.verdict.matches} of {found.verdict.trials}",
        "p": f"{found.verdict.p_adjusted:.3g}",
        "made": found.made,
        "links": ", ".join(f"{link.name} {link.state}" for link in links),
    }
    return Record(kind="case", digest=file_hash(path), about=about, body="")
