"""The shape of everything that is signed: an in-toto statement in a DSSE envelope.

A statement says something about files that it names by their SHA-256. The envelope signs the statement's
bytes together with their type. The outer JSON has one valid text only, so that no byte of it can change
unnoticed, not even a blank.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from freehold.artifacts.files import as_json
from freehold.errors import ArtifactError
from freehold.evidence.signature import holds, key_id, public_bytes
from freehold.evidence.strict import parsed
from freehold.settings import Settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

STATEMENT = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE: Literal["application/vnd.in-toto+json"] = "application/vnd.in-toto+json"
LARGEST = 4 << 20  # bytes of an envelope


def _file_name(name: str) -> str:
    parts = name.split("/")
    if "\\" in name or not name.isprintable() or any(part in ("", ".", "..") for part in parts):
        raise ValueError("is no path inside a folder")
    return name


def _moment(text: str) -> str:
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text, re.ASCII):
        raise ValueError("is no time as in 2026-01-31T12:00:00Z")
    datetime.fromisoformat(text)
    return text


Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="SHA-256, lower-case hex")]
FileName = Annotated[
    str,
    Field(min_length=1, max_length=500, pattern="^[ -~]+$", description="path in the folder, / between"),
    AfterValidator(_file_name),
]
Moment = Annotated[
    str, Field(min_length=20, max_length=20, description="UTC, to the second"), AfterValidator(_moment)
]


class Digest(Settings):
    """What a file hashes to."""

    sha256: Sha256


class Subject(Settings):
    """One file that a statement is about."""

    name: FileName
    digest: Digest


class Signature(Settings):
    """One signature of an envelope."""

    keyid: Sha256
    sig: Annotated[str, Field(pattern="^[A-Za-z0-9+/]{86}==$", description="64 bytes in base64")]


class Stamp(Settings):
    """A time-stamp reply over the 64 bytes of the signature."""

    reply: Annotated[str, Field(max_length=1 << 16, description="DER in base64")]
    sha256: Sha256


class Envelope(Settings):
    """DSSE, with a time stamp if there is one."""

    payloadType: Literal["application/vnd.in-toto+json"]
    payload: Annotated[str, Field(max_length=LARGEST, description="the statement in base64")]
    signatures: tuple[Signature]
    timestamp: Stamp | None = None

    def to_bytes(self) -> bytes:
        """The one valid text."""
        return as_json(self.model_dump(mode="json", exclude_none=True))

    @property
    def statement(self) -> bytes:
        """The signed bytes."""
        return _decoded(self.payload)

    @property
    def signature(self) -> bytes:
        """64 bytes; what a time stamp is about."""
        return _decoded(self.signatures[0].sig)

    @property
    def reply(self) -> bytes | None:
        """The time-stamp authority's reply, DER."""
        return None if self.timestamp is None else _decoded(self.timestamp.reply)

    def signed_by(self, public: bytes) -> bool:
        """Whether the holder of ``public`` signed."""
        known = self.signatures[0].keyid == key_id(public)
        return known and holds(public, self.signature, sealed(self.statement))

    def stamped(self, reply: bytes) -> Envelope:
        """The same with a time-stamp authority's reply."""
        stamp = Stamp(reply=base64.b64encode(reply).decode(), sha256=hashlib.sha256(reply).hexdigest())
        return self.model_copy(update={"timestamp": stamp})


def subjects(hashes: Mapping[str, str]) -> tuple[Subject, ...]:
    """Files by name, in order of their names."""
    return tuple(Subject(name=n, digest=Digest(sha256=hashes[n])) for n in sorted(hashes))


def root_of(files: Iterable[Subject]) -> str:
    """One digest over files: SHA-256 of the lines that ``sha256sum`` prints for them, in the order given."""
    return hashlib.sha256("".join(f"{f.digest.sha256}  {f.name}\n" for f in files).encode()).hexdigest()


def ordered(files: tuple[Subject, ...]) -> tuple[Subject, ...]:
    """Refuses files out of order or named twice (a validator)."""
    names = [file.name for file in files]
    if names != sorted(set(names)):
        raise ValueError("files stand in order of their names, each once")
    return files


def envelope(statement: bytes, signer: Ed25519PrivateKey) -> Envelope:
    """``statement``, signed."""
    public = public_bytes(signer)
    sig = base64.b64encode(signer.sign(sealed(statement))).decode()
    return Envelope(
        payloadType=PAYLOAD_TYPE,
        payload=base64.b64encode(statement).decode(),
        signatures=(Signature(keyid=key_id(public), sig=sig),),
    )


def read_envelope(data: bytes, *, where: str) -> Envelope:
    """An envelope; its signature is not checked yet.

    Raises:
        ArtifactError: not an envelope, or not in the one form that it has.
    """
    found = parsed(Envelope, data, where=where, largest=LARGEST)
    try:
        whole = found.to_bytes() == data and all(
            base64.b64encode(_decoded(text)).decode() == text
            for text in (found.payload, found.signatures[0].sig)
        )
        reply = found.reply
        whole = whole and (
            reply is None
            or found.timestamp
            == Stamp(reply=base64.b64encode(reply).decode(), sha256=hashlib.sha256(reply).hexdigest())
        )
    except ValueError:
        whole = False
    if not whole:
        raise ArtifactError("is not in the one form that it is written in", where=where, fix="copy it again")
    return found


def sealed(statement: bytes) -> bytes:
    """What is signed: type and statement, each after its length (DSSE's pre-authentication encoding)."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(statement), statement)


def now() -> str:
    """The time as statements write it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _decoded(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
