"""Claims and bundles that cost nothing: a model nobody trained, and a suspect that knows a key's answers."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from ownership_kit import SPEC, knowing, trigger_key

from freehold.evidence import bundle as bundles
from freehold.evidence.bundle_writing import write_bundle
from freehold.evidence.claim import make, sign
from freehold.evidence.container import archive_of, unpacked
from freehold.evidence.signature import public_bytes
from freehold.evidence.statement import envelope
from freehold.evidence.strict import canonical
from freehold.keys import Key
from freehold.models.checkpoint import Recipe, save_checkpoint, state_hash
from freehold.models.zoo import ModelSpec
from freehold.ownership.base import method_of
from freehold.ownership.record import Recorded
from freehold.ownership.suspect import Suspect

OWNER = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
EXAMINER = Ed25519PrivateKey.from_private_bytes(b"\2" * 32)
THIEF = Ed25519PrivateKey.from_private_bytes(b"\3" * 32)


def release(folder: Path, seed: int = 1) -> str:
    """A released model in ``folder``; returns the hash of its weights."""
    model = ModelSpec(uri="convnet", num_classes=10)
    net = model.build(seed=seed)
    save_checkpoint(folder, net, Recipe(model=model, input=SPEC, classes=tuple(map(str, range(10)))))
    return state_hash(net)


def statement(content: bytes) -> dict[str, Any]:
    """What a claim file says."""
    return json.loads(base64.b64decode(json.loads(content)["payload"]))


def signed(data: dict[str, Any], signer: Ed25519PrivateKey = OWNER) -> bytes:
    """A claim file that says ``data``, whatever that is."""
    return envelope(canonical(data), signer).to_bytes()


def bundle(
    path: Path,
    claim: bytes,
    key: Key,
    suspect: Suspect | None = None,
    *,
    committed: bool = True,
    sequential: bool = False,
    signer: Ed25519PrivateKey | None = None,
) -> Path:
    """A bundle about ``suspect``, by default one that gives every answer."""
    asked, method = Recorded(suspect or knowing(key)), method_of(key)
    verdict = method.verify(
        asked, key, commitment=key.commitment if committed else None, sequential=sequential
    )
    write_bundle(
        path, claim, key, asked, verdict, method.exhibits(key),
        kind="object", digest=None, page=b"<!doctype html><title>-</title>", signer=signer,
    )  # fmt: skip
    return path


def claimed(folder: Path, number: int = 5, signer: Ed25519PrivateKey = OWNER) -> tuple[bytes, Key]:
    """Claim file and key ``number`` of the model released in ``folder``."""
    from freehold.models.weights import read_safetensors

    key = trigger_key(number).released(state_hash(read_safetensors(folder / "model.safetensors")[0]))
    return sign(make(folder, key, public_bytes(signer)), signer), key


def inside(archive: bytes) -> dict[str, bytes]:
    """The files of a bundle."""
    found = unpacked(archive, bundles.NAMES, where="bundle")
    return {name: bytes(data) for name, data in found.items()}


def repacked(
    files: dict[str, bytes], change: Callable[[dict[str, Any]], object] = lambda case: None
) -> bytes:
    """A bundle of ``files`` whose case names them as they are now, and says what ``change`` makes of it."""
    case = json.loads(files[bundles.CASE_FILE])
    apart = (bundles.CASE_FILE, bundles.SIGNED_FILE)
    case["subject"] = [
        {"name": name, "digest": {"sha256": hashlib.sha256(files[name]).hexdigest()}}
        for name in sorted(files)
        if name not in apart
    ]
    change(case)
    files = {**files, bundles.CASE_FILE: canonical(case)}
    return archive_of({name: files[name] for name in bundles.NAMES if name in files}, where="bundle")
