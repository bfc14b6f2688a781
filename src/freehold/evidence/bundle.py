"""A bundle of evidence: one file that holds all that a stranger needs to recompute a verdict.

The claim as it was published, the key in the open, what the suspect was asked and what it answered (or
the weights that were read in it), the verdict, and a page for people. Whoever gets it can do what the
owner of the key can: a bundle goes to whoever has to judge, and the key is spent with it.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, TypeAdapter, ValidationError

from freehold.errors import ArtifactError
from freehold.evidence.case import MOST, Case, Findings
from freehold.evidence.claim import Signed
from freehold.evidence.claim import read as read_claim
from freehold.evidence.container import read_archive, unpacked
from freehold.evidence.statement import (
    LARGEST,
    Envelope,
    read_envelope,
)
from freehold.evidence.strict import parsed, strict_json
from freehold.keys.key import Key

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CLAIM_FILE, CASE_FILE, SIGNED_FILE, PAGE = "claim.json", "case.json", "case.dsse.json", "page.html"
OPENING, LEARNED = "opening.json", "learned.safetensors"
ANSWERS, QUERIES, SCORES, WEIGHTS = "answers.json", "queries.bin", "scores.bin", "weights.safetensors"
NAMES = (CLAIM_FILE, CASE_FILE, SIGNED_FILE, OPENING, LEARNED, ANSWERS, QUERIES, SCORES, WEIGHTS, PAGE)
RAW = 16 << 20  # bytes of queries, or of scores, that are kept; of more queries the root of a hash tree
_ANSWERS = TypeAdapter(Annotated[tuple[Annotated[int, Field(ge=0, lt=1 << 31)], ...], Field(max_length=MOST)])


@dataclass(frozen=True, repr=False)
class Bundle:
    """A bundle as it was read: whole and well-formed, but nothing in it was recomputed yet.

    Attributes:
        claim: its signature was checked.
        case: what was found.
        record: the signature of who answers for the record, if anybody does; not checked yet.
        key: the key in the open.
        answers: int64 ``(n,)``, to the queries.
        queries: uint8 ``(n, C, H, W)``, or None if they were too many.
        scores: float32 ``(n, K)`` that the answers follow from, or None if labels were read.
        weights: of the suspect, by layer; empty where none were read, or too many.
        where: what it was read from.
    """

    claim: Signed
    case: Case
    record: Envelope | None
    key: Key
    answers: Tensor
    queries: Tensor | None
    scores: Tensor | None = None
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    where: str = "bundle"


def read_bundle(path: str | Path) -> Bundle:
    """A bundle from a file that anybody may have made.

    Raises:
        MissingInputError: it cannot be read.
        ArtifactError: not a bundle, altered, or mixed from several.
    """
    path, where = Path(path), os.fspath(path)
    files = unpacked(read_archive(path), NAMES, where=where)
    missing = [name for name in (CLAIM_FILE, CASE_FILE, OPENING, ANSWERS, PAGE) if name not in files]
    if missing:
        raise ArtifactError(f"holds no {missing[0]}", where=where, fix="use the bundle as it was made")
    claim = read_claim(_text(files, CLAIM_FILE, where), where=f"{where}: {CLAIM_FILE}")
    said = _text(files, CASE_FILE, where)
    case = parsed(Case, said, where=f"{where}: {CASE_FILE}", largest=LARGEST)
    found = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    named = {file.name: file.digest.sha256 for file in case.subject}
    for name in sorted({*found, *named} - {CASE_FILE, SIGNED_FILE}):
        if found.get(name) != named.get(name):
            raise ArtifactError("is not the file that the case is about", where=f"{where}: {name}")
    record = _record(files, said, where)
    key = _key(files, where)
    answers = _answers(_text(files, ANSWERS, where), case, where)
    queries = _queries(files.get(QUERIES), case.predicate, where)
    scores = _scores(files.get(SCORES), case.predicate, where)
    weights = _tensors(files.get(WEIGHTS), f"{where}: {WEIGHTS}")
    return Bundle(claim, case, record, key, answers, queries, scores, weights, where)


def _text(files: Mapping[str, memoryview], name: str, where: str) -> bytes:
    if len(files[name]) > LARGEST:
        raise ArtifactError(f"has more than {LARGEST} bytes", where=f"{where}: {name}")
    return bytes(files[name])


def _record(files: Mapping[str, memoryview], said: bytes, where: str) -> Envelope | None:
    if SIGNED_FILE not in files:
        return None
    signed = f"{where}: {SIGNED_FILE}"
    found = read_envelope(_text(files, SIGNED_FILE, where), where=signed)
    if found.statement != said:
        raise ArtifactError("is the signature of another case", where=signed)
    return found


def _key(files: Mapping[str, memoryview], where: str) -> Key:
    opening = _text(files, OPENING, where)
    strict_json(opening, where=f"{where}: {OPENING}", largest=LARGEST)
    return Key.opened(
        opening, _tensors(files.get(LEARNED), f"{where}: {LEARNED}"), where=f"{where}: {OPENING}"
    )


def _answers(data: bytes, case: Case, where: str) -> Tensor:
    import torch

    strict_json(data, where=f"{where}: {ANSWERS}", largest=LARGEST)
    try:
        found = _ANSWERS.validate_json(data, strict=True)
    except ValidationError:
        raise ArtifactError("is no list of answers", where=f"{where}: {ANSWERS}") from None
    about = case.predicate
    if len(found) != about.queries.count or max(found, default=0) >= about.suspect.num_classes:
        raise ArtifactError("answers other questions than the case tells of", where=f"{where}: {ANSWERS}")
    return torch.tensor(found, dtype=torch.int64)


def _queries(data: memoryview | None, about: Findings, where: str) -> Tensor | None:
    import torch

    if data is None:
        return None
    shape = (about.queries.count, about.suspect.channels, *about.suspect.size)
    if not 0 < math.prod(shape) == len(data) <= RAW:
        raise ArtifactError("holds other queries than the case tells of", where=f"{where}: {QUERIES}")
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).view(shape)


def _scores(data: memoryview | None, about: Findings, where: str) -> Tensor | None:
    import torch

    if data is None:
        return None
    shape = about.queries.count, about.suspect.num_classes
    if not 0 < 4 * math.prod(shape) == len(data) <= RAW:
        raise ArtifactError("holds scores of other answers", where=f"{where}: {SCORES}")
    found = torch.frombuffer(bytearray(data), dtype=torch.float32).view(shape)
    if not bool(((found >= 0) & found.isfinite()).all()):
        raise ArtifactError("holds scores that are no probabilities", where=f"{where}: {SCORES}")
    return found


def _tensors(data: memoryview | None, where: str) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    if data is None:
        return {}
    try:
        found = load(bytes(data))
        finite = all(bool(tensor.isfinite().all()) for tensor in found.values())
    except (SafetensorError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise ArtifactError(f"is no whole safetensors file: {error!s:.80}", where=where) from None
    if not finite:
        raise ArtifactError("holds numbers that are not finite", where=where)
    return found
