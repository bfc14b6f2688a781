"""What a key's secrets would look like in a file, and the search for them."""

from __future__ import annotations

import base64
import json
import mmap
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from freehold.errors import SecretError
from freehold.keys import Key

_PIECE = 16  # bytes: half of the secret; a longer run of it holds one of the halves
_WINDOW = 64  # bytes of a learned tensor
_ANSWERS = 64  # secret answers in a row: with two classes once in 2^64 by chance
_PUBLIC = "reference."  # learned tensors by which a suspect is aligned: the released weights themselves


def traces(key: Key, answers: Tensor) -> dict[bytes, str]:
    """Every form in which a part of ``key`` could be recognised, and what it is called.

    Its 32 secret bytes in raw, hexadecimal, base64 at every alignment and as numbers; the secret answers;
    and windows of what was learned for it.

    Args:
        key: of the marked model.
        answers: int64 ``(n,)``, the secret answers of its trials.
    """
    found: dict[bytes, str] = {}
    secret = bytes.fromhex(json.loads(key.opening())["secret"])
    for piece in (secret[:_PIECE], secret[_PIECE:]):
        found |= dict.fromkeys(_spellings(piece), "the key's secret")
    first = answers[:_ANSWERS]
    if len(first) == _ANSWERS and len(set(first.tolist())) > 1:
        listed = [f"{join}".join(map(str, first.tolist())).encode() for join in (",", ", ", " ", "\n")]
        raw = [first.to(kind).numpy().tobytes() for kind in (torch.int64, torch.int32, torch.uint8)]
        found |= dict.fromkeys([*listed, *raw], "the key's secret answers")
    for name, tensor in key.learned.items():
        if not name.startswith(_PUBLIC):
            found |= dict.fromkeys(_windows(tensor), f"{name}, which was learned for the key")
    return found


def refuse_traces(files: Iterable[Path], also: Mapping[str, bytes], known: Mapping[bytes, str]) -> None:
    """Look for ``known`` in every byte of ``files`` and of the texts ``also``, which are called by name.

    Raises:
        SecretError: says which file holds what; not where, and not the secret.
    """
    for path in files:
        if path.stat().st_size:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                _refuse(path.name, content, known)
    for name, text in also.items():
        _refuse(name, text, known)


def _refuse(name: str, content: bytes | mmap.mmap, known: Mapping[bytes, str]) -> None:
    for pattern, what in known.items():
        if content.find(pattern) >= 0:
            raise SecretError(
                f"would hold {what}",
                where=name,
                fix="nothing was published; a model must not keep secrets in its state",
            )


def _spellings(piece: bytes) -> list[bytes]:
    listed = [join.join(map(str, piece)).encode() for join in (",", ", ", " ")]
    every = [piece, piece.hex().encode(), piece.hex().upper().encode(), repr(piece)[2:-1].encode(), *listed]
    for before in range(3):  # bytes of something else in front move the secret against the alphabet
        text = base64.b64encode(bytes(before) + piece)
        inner = text[-(-before * 8 // 6) : (before + len(piece)) * 8 // 6]
        every += [inner, inner.translate(bytes.maketrans(b"+/", b"-_"))]
    return every


def _windows(tensor: Tensor) -> list[bytes]:
    """Stretches of a tensor's bytes, at both ends and in the middle; none that are mostly one value."""
    data = tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
    starts = {0, (len(data) - _WINDOW) // 2, len(data) - _WINDOW}
    cut = [data[at : at + _WINDOW] for at in sorted(starts) if at >= 0]
    return [window for window in cut if len(set(window)) >= _PIECE]
