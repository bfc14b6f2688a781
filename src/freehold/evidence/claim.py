"""A claim: what an owner publishes, or has time-stamped, before a model is released.

It names the owner, every released file by its digest, how the model was marked, the test that will be
made and its level, and the commitment to the key. It tells nothing of the key itself. A claim alone shows
nothing about any suspect: it fixes beforehand what a later verdict may rest on.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, model_validator

from freehold.errors import ArtifactError, MissingInputError, SecretError, UsageError
from freehold.evidence.signature import public_bytes
from freehold.evidence.statement import (
    LARGEST,
    STATEMENT,
    Envelope,
    FileName,
    Moment,
    Sha256,
    Subject,
    envelope,
    now,
    ordered,
    read_envelope,
    root_of,
    subjects,
)
from freehold.evidence.strict import canonical, parsed
from freehold.settings import Settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from freehold.keys import Key

CLAIM = "urn:freehold:claim:1"
Line = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$")]


class Test(Settings):
    """The test that a verdict will rest on, fixed beforehand."""

    alpha: float = Field(gt=0, le=0.05, description="largest chance of a MATCH for an innocent suspect")
    null: Literal["exact", "measured"] = Field(description="how the chance of a match by luck is known")
    rate: float = Field(gt=0, lt=1, description="that chance, a trial")
    trials: int = Field(ge=1, le=1 << 32, description="secret answers that the key holds")


class Terms(Settings):
    """What is claimed about the files that a claim names."""

    owner: Line = Field(description="whose; may be empty")
    signer: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] = Field(
        description="Ed25519 public key of who signs, 32 bytes in hex"
    )
    root: Sha256 = Field(description="SHA-256 of the lines 'digest, two blanks, name' of all files")
    state: Sha256 = Field(description="hash of the released weights as tensors, whatever file holds them")
    weights: FileName = Field(description="the file that holds them, one of those named")
    method: Annotated[Line, Field(min_length=1)] = Field(description="how the model was marked")
    settings: dict[str, JsonValue] = Field(description="of the method")
    test: Test
    commitment: Sha256 = Field(description="to the key; its opening comes with a bundle of evidence")
    made: Moment = Field(description="as the signer says; only a time stamp shows it")
    software: dict[Line, Line] = Field(description="versions")


class Claim(Settings):
    """An in-toto statement about the files of a release.

    Attributes:
        type_: of the statement.
        subject: the released files, in order of their names.
        predicateType: which statement this is.
        predicate: what is claimed.
    """

    type_: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: Annotated[tuple[Subject, ...], Field(min_length=1, max_length=10_000), AfterValidator(ordered)]
    predicateType: Literal["urn:freehold:claim:1"]
    predicate: Terms

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.predicate.root != root_of(self.subject):
            raise ValueError("the root does not follow from the files")
        if self.predicate.weights not in {file.name for file in self.subject}:
            raise ValueError("the weights are none of the files")
        return self

    @property
    def files(self) -> dict[str, str]:
        """SHA-256 (hex) by name."""
        return {file.name: file.digest.sha256 for file in self.subject}


@dataclass(frozen=True)
class Signed:
    """A claim whose signature was checked.

    Attributes:
        claim: what is claimed.
        envelope: the signature, and a time stamp that was not checked yet.
        digest: SHA-256 (hex) of the whole file, by which records name it.
    """

    claim: Claim
    envelope: Envelope
    digest: str

    @property
    def signer(self) -> bytes:
        """Public key, 32 bytes; whose it is has to be known from elsewhere."""
        return bytes.fromhex(self.claim.predicate.signer)


def make(folder: str | Path, key: Key, signer: bytes, *, alpha: float = 1e-6) -> Claim:
    """The claim on a model that ``key`` marked.

    Args:
        folder: a finished run, of which the model and its recipe are claimed; or any other folder with a
            ``model.safetensors``, of which every file is.
        key: bound to that model.
        signer: public key, 32 bytes, of who is going to sign.
        alpha: level of the test, in (0, 0.05].

    Raises:
        MissingInputError: no such folder, or no weights in it.
        ArtifactError: a run that was altered.
        SecretError: the key belongs to no model, or to other weights.
        UsageError: alpha out of range, the key's trials cannot reach it, or names that no claim can hold.
    """
    from freehold.artifacts.files import file_hash
    from freehold.models.checkpoint import MODEL
    from freehold.models.weights import read_safetensors, state_hash
    from freehold.ownership.base import method_of
    from freehold.protection import versions

    folder = Path(folder)
    method = method_of(key)
    found = released_files(folder)
    state = state_hash(read_safetensors(folder / MODEL)[0])
    if key.facts.get("released") != state:
        raise SecretError(
            "the key was bound to other weights",
            where=str(folder / MODEL),
            fix="name the run that this key came from",
        )
    trials = method.check_level(key, alpha)
    files = subjects({name: file_hash(path) for name, path in found.items()})
    return Claim(
        _type=STATEMENT,
        subject=files,
        predicateType=CLAIM,
        predicate=Terms(
            owner=key.owner,
            signer=signer.hex(),
            root=root_of(files),
            state=state,
            weights=MODEL,
            method=key.method,
            settings=dict(key.settings),
            test=Test(alpha=alpha, null=trials.null, rate=trials.rate, trials=len(trials.labels)),
            commitment=key.commitment,
            made=now(),
            software=versions(),
        ),
    )


def sign(claim: Claim, signer: Ed25519PrivateKey) -> bytes:
    """The content of a claim file.

    Raises:
        SecretError: the claim names another signer.
    """
    if claim.predicate.signer != public_bytes(signer).hex():
        raise SecretError("the claim names another signer", where="signer", fix="make the claim for this key")
    return envelope(canonical(as_data(claim)), signer).to_bytes()


def read(data: bytes, *, where: str = "claim") -> Signed:
    """A claim from the content of its file, its signature checked.

    Raises:
        ArtifactError: not a claim, altered by so much as one bit, or not signed by whom it names.
    """
    found = read_envelope(data, where=where)
    claim = parsed(Claim, found.statement, where=where, largest=LARGEST)
    if not found.signed_by(bytes.fromhex(claim.predicate.signer)):
        raise ArtifactError("the signature does not hold: altered after it was signed", where=where)
    return Signed(claim, found, hashlib.sha256(data).hexdigest())


def read_file(path: str | Path) -> Signed:
    """As :func:`read`, of a file.

    Raises:
        MissingInputError: it cannot be read.
        ArtifactError: as :func:`read`.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise MissingInputError(f"cannot be read: {error.strerror}", where=str(path)) from None
    return read(data, where=str(path))


def as_data(claim: Claim) -> dict[str, Any]:
    """A claim as the JSON-able statement that is signed."""
    return claim.model_dump(mode="json", by_alias=True)


def released_files(folder: Path) -> dict[str, Path]:
    """The files that a claim on ``folder`` covers: of a run the model and its recipe, else all.

    Raises:
        MissingInputError: no such folder, or no weights in it.
        ArtifactError: a run that was altered.
        UsageError: a link among the files.
    """
    from freehold.artifacts.manifest import RUN, files_of, verify_run
    from freehold.models.checkpoint import MODEL, RECIPE

    if not folder.is_dir():
        raise MissingInputError("there is no such folder", where=str(folder))
    if not (folder / MODEL).is_file():
        raise MissingInputError(f"holds no {MODEL}", where=str(folder), fix="name a marked run")
    if (folder / RUN).exists():
        verify_run(folder)
        return {name: folder / name for name in (MODEL, RECIPE)}
    found = files_of(folder)
    if link := next((name for name, path in found.items() if path.is_symlink()), None):
        raise UsageError("a link is no file to claim", where=link, fix="put the file itself there")
    return found
