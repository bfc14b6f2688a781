"""``freehold claim`` and ``freehold stamp``: a claim made, signed, and put before a time-stamp authority."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freehold.artifacts.files import write_file
from freehold.errors import MissingInputError, OutputError, UsageError
from freehold.evidence import timestamp
from freehold.evidence.claim import Signed, make, read, read_file, sign
from freehold.evidence.oms import sign_folder
from freehold.evidence.signature import key_id, public_bytes
from freehold.keys import Key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


@dataclass(frozen=True)
class ClaimReport:
    """A claim file that was written.

    Attributes:
        path: of the file.
        signed: what it holds.
        moment: that a time stamp names, ISO 8601; empty without one.
    """

    path: Path
    signed: Signed
    moment: str = ""

    def to_json(self) -> dict[str, Any]:
        """As JSON-able data."""
        terms = self.signed.claim.predicate
        return {
            "claim": str(self.path),
            "digest": self.signed.digest,
            "owner": terms.owner,
            "method": terms.method,
            "files": self.signed.claim.files,
            "root": terms.root,
            "commitment": terms.commitment,
            "signer": key_id(self.signed.signer),
            "alpha": terms.test.alpha,
            "stamped": self.moment or None,
        }


def claim(
    folder: str | Path,
    key: Key,
    signer: Ed25519PrivateKey,
    out: str | Path,
    *,
    alpha: float = 1e-6,
    authority: str | None = None,
    oms_key: str | Path | None = None,
) -> ClaimReport:
    """Claim the model in ``folder``, and write the signed claim to ``out``.

    Args:
        folder: a marked run, or a release of it.
        key: of that model.
        signer: of the owner.
        out: the file to write; never over another one, and never into the folder.
        alpha: level of the test that a verdict will rest on.
        authority: address of a time-stamp authority that is asked.
        oms_key: PEM file of an elliptic-curve key that signs the folder, into ``out`` with ``.oms.sig``.

    Raises:
        FreeholdError: as :func:`freehold.evidence.claim.make`; no reply from the authority; nothing is then
            written.
    """
    folder, out = Path(folder), Path(out)
    if out.exists():
        raise OutputError("there is a file already", where=str(out), fix="choose another --out")
    if out.resolve().is_relative_to(folder.resolve()):
        raise UsageError("a claim stands beside what it is about", where=str(out), fix="choose another --out")
    content = sign(make(folder, key, public_bytes(signer), alpha=alpha), signer)
    signed, moment = read(content), ""
    if authority is not None:
        content, moment = _stamped(signed, timestamp.ask(authority, signed.envelope.signature), authority)
    if oms_key is not None:
        sign_folder(folder, Path(oms_key), out.with_name(f"{out.name}.oms.sig"))
    write_file(out, content)
    return ClaimReport(out, read(content), moment)


def stamp(path: str | Path, source: str) -> ClaimReport:
    """Add a time stamp to a claim that has none.

    Args:
        path: the claim file.
        source: address of an authority that is asked, or a file with the reply of one.

    Raises:
        FreeholdError: the claim does not hold or has a stamp; no reply, or one about something else.
    """
    path, signed = Path(path), read_file(path)
    if signed.envelope.timestamp is not None:
        raise UsageError("is stamped already", where=str(path))
    if "://" in source:
        reply = timestamp.ask(source, signed.envelope.signature)
    else:
        try:
            with Path(source).open("rb") as file:
                reply = file.read(timestamp.LARGEST + 1)
        except OSError as error:
            raise MissingInputError(f"cannot be read: {error.strerror}", where=source) from None
    content, moment = _stamped(signed, reply, source)
    write_file(path, content)
    return ClaimReport(path, read(content), moment)


def _stamped(signed: Signed, reply: bytes, source: str) -> tuple[bytes, str]:
    moment = timestamp.stamped_at(reply, signed.envelope.signature, where=source)
    return signed.envelope.stamped(reply).to_bytes(), moment.isoformat()
