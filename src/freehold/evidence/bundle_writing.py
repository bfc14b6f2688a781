"""Writing a bundle: all that led to one verdict, in one file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from freehold.errors import OutputError, UsageError
from freehold.evidence.bundle import (
    ANSWERS,
    CASE_FILE,
    CLAIM_FILE,
    LEARNED,
    NAMES,
    OPENING,
    PAGE,
    QUERIES,
    RAW,
    SCORES,
    SIGNED_FILE,
    WEIGHTS,
)
from freehold.evidence.case import CASE, Asked, Case, Findings, Questions
from freehold.evidence.claim import read as read_claim
from freehold.evidence.container import Data, archive_of
from freehold.evidence.hashtree import leaves_of, tree_root
from freehold.evidence.statement import STATEMENT, envelope, now, subjects
from freehold.evidence.strict import canonical
from freehold.keys.key import Key
from freehold.keys.vault import write_private
from freehold.models.wrapped import holding
from freehold.ownership.record import Recorded
from freehold.ownership.verdict import Verdict
from freehold.protection import versions

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from torch import Tensor

READ = 60 << 20  # bytes of all files with a suspect's weights; where they do not fit, they are left out


def write_bundle(
    path: str | Path,
    claim: bytes,
    key: Key,
    asked: Recorded,
    verdict: Verdict,
    layers: tuple[str, ...],
    *,
    kind: Literal["folder", "file", "address", "object"],
    digest: str | None,
    page: bytes,
    signer: Ed25519PrivateKey | None = None,
) -> None:
    """Write all that led to ``verdict`` to ``path``, readable by its owner only, whole or not at all.

    Args:
        path: of the new file.
        claim: the claim file's content.
        key: that the verdict is about; it is written in the open.
        asked: the suspect, which recorded what it was asked.
        verdict: on it.
        layers: whose weights the method read.
        kind: of suspect.
        digest: what it can be known by.
        page: HTML.
        signer: of who asked and answers for the record.

    Raises:
        ArtifactError: the claim does not hold.
        UsageError: the verdict broke off.
        OutputError: there is a file already, it would be too large, or cannot be written.
    """
    from safetensors.torch import save

    path = Path(path)
    if verdict.failure:
        raise UsageError("a verdict that broke off is no evidence", where=str(path))
    if path.exists():
        raise OutputError("there is a file already", where=str(path), fix="choose another name")
    read_claim(claim)
    images = asked.images
    files: dict[str, Data] = {CLAIM_FILE: claim, OPENING: key.opening(), PAGE: page}
    files[ANSWERS] = canonical(asked.answers.tolist())
    if key.learned:
        files[LEARNED] = save(dict(key.learned))
    if 0 < images.numel() <= RAW:
        files[QUERIES] = images.contiguous().numpy().tobytes()
    scores = asked.scores
    if 0 < scores.nbytes <= RAW:
        files[SCORES] = scores.contiguous().numpy().astype("<f4").tobytes()
    seen = _weights(asked, layers) if layers else {}
    if seen and sum(weight.nbytes for weight in seen.values()) <= READ - sum(map(len, files.values())):
        files[WEIGHTS] = save(seen)
    case = Case(
        _type=STATEMENT,
        subject=subjects({name: hashlib.sha256(data).hexdigest() for name, data in files.items()}),
        predicateType=CASE,
        predicate=Findings(
            suspect=Asked(
                name=asked.name,
                kind=kind,
                digest=digest,
                access=asked.access.name.lower(),
                channels=asked.input.channels,
                size=asked.input.size,
                num_classes=asked.num_classes,
            ),
            queries=Questions(count=len(images), root=tree_root(leaves_of(images))),
            verdict=verdict,
            made=now(),
            software=versions(),
        ),
    )
    said = canonical(case.model_dump(mode="json", by_alias=True))
    files[CASE_FILE] = said
    if signer is not None:
        files[SIGNED_FILE] = envelope(said, signer).to_bytes()
    inside = {name: files[name] for name in NAMES if name in files}
    write_private(path, archive_of(inside, where=str(path)))


def _weights(asked: Recorded, layers: Sequence[str]) -> dict[str, Tensor]:
    model = holding(asked.weights(), layers)
    found = {name: model.get_parameter(f"{name}.weight").detach().cpu() for name in layers}
    return {name: weight.clone().contiguous() for name, weight in found.items()}
