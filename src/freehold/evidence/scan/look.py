"""One file, looked at: opened once, hashed, and read by the scanner of its format."""

from __future__ import annotations

import hashlib
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from freehold.errors import ArtifactError, MissingInputError, UsageError
from freehold.evidence.scan.apart import load_apart
from freehold.evidence.scan.archive import scan_archive
from freehold.evidence.scan.onnx import scan_onnx
from freehold.evidence.scan.pickles import LARGEST, scan_pickle
from freehold.evidence.scan.report import Inspection, Notes
from freehold.evidence.scan.safetensors import scan_safetensors

LARGEST_FILE = 256 << 30  # bytes
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")


def scan(path: str | Path) -> Inspection:
    """Look into a model file without running anything in it.

    Safetensors and ONNX are read by their structure. Pickles are listed instruction by instruction;
    only if they ask for nothing but tensors are these loaded, with ``weights_only=True``, in a child process.
    Needs neither torch nor onnx in this process, and less than 256 MB for a file of any size.

    Args:
        path: ``.safetensors``, ``.onnx``, ``.pt``, ``.pth``, ``.bin``, ``.ckpt``, ``.pkl`` or ``.pickle``.

    Raises:
        MissingInputError: there is no such file, or no permission to read it.
        UsageError: a folder, link or device, or of an unknown ending.
        ArtifactError: it does not have the structure of its format.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in (".safetensors", ".onnx", *_PICKLES):
        known = ", ".join((".safetensors", ".onnx", *_PICKLES))
        raise UsageError(f"unknown kind of model file {ending!r}", where=str(path), fix=f"one of {known}")
    notes = Notes()
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > LARGEST_FILE:
            raise ArtifactError(f"a file of {size} bytes is larger than any model", where=str(path))
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        kind = _read(file, size, path, ending, notes)
    counted = notes.counted
    return Inspection(
        path=str(path),
        format=kind,
        size=size,
        sha256=digest,
        verdict=notes.verdict,
        findings=notes.findings(),
        tensors=notes.tensors if counted else None,
        numbers=notes.numbers if counted else None,
        kinds=dict(sorted(notes.kinds.items())),
        nan=notes.nan if counted else None,
        infinite=notes.infinite if counted else None,
        globals=tuple(sorted(notes.globals)),
        operators=tuple(sorted(notes.operators)),
        metadata=notes.metadata,
    )


def _read(file: BinaryIO, size: int, path: Path, ending: str, notes: Notes) -> str:
    """The format by name; findings go to ``notes``."""
    if ending == ".safetensors":
        scan_safetensors(file, size, str(path), notes)
        return "safetensors"
    if ending == ".onnx":
        scan_onnx(file, size, path, notes)
        return "onnx"
    file.seek(0)
    data = file.read(LARGEST)
    if data.startswith(b"PK"):
        kind = "torch archive"
        scan_archive(file, size, path.name, notes)
    else:
        kind = scan_pickle(data, path.name, notes, whole=size <= LARGEST)
    if notes.verdict == "SAFE":  # every instruction was listed
        load_apart(file, size, notes)
    else:
        notes.counted = False
    return kind


def _opened(path: Path) -> BufferedReader:
    """The file, opened so that no link is followed and no pipe is waited for."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError:
        raise UsageError("no path holds a NUL byte", where=str(path).replace("\0", "\\0")) from None
    except OSError as error:
        if path.is_symlink():
            fix = "name the file that it leads to"
            raise UsageError("is a link, and links are not followed", where=str(path), fix=fix) from None
        raise MissingInputError(f"cannot be read: {error.strerror}", where=str(path)) from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UsageError("is no file", where=str(path), fix="name a single model file")
    return os.fdopen(handle, "rb")
