"""The seal of a SQLite registry: its head and the hash of its file, in a small file beside it.

The chain of entries covers what is read from a database, not the unused bytes of its file. The seal
covers these too, so that each damaged bit of a file shows, and an end that was lost with it.
"""

from __future__ import annotations

import fcntl
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from freehold.artifacts.files import as_json, file_hash, write_file, writing
from freehold.errors import ArtifactError, OutputError, UsageError

WAIT = 10.0  # seconds for another writer
SEAL, LOCK = ".seal", ".lock"


class Head(NamedTuple):
    """Number and hash of the last entry; of an empty registry 0 and what its first entry will follow."""

    number: int
    hash: str

    def __str__(self) -> str:
        return f"{self.number}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """What ``str`` of a head gave.

        Raises:
            UsageError: it is no head.
        """
        found = re.fullmatch(r"(\d{1,12}):([0-9a-f]{64})", text.strip(), re.ASCII)
        if found is None:
            raise UsageError("is no head of a registry", where="head", fix="as printed: NUMBER:HASH")
        return cls(int(found[1]), found[2])


@contextmanager
def locked(file: Path | None) -> Iterator[None]:
    """Hold the registry in ``file``, so that entry and seal are written together; nothing without a file.

    Raises:
        OutputError: somebody else holds it for too long, or the folder cannot be written.
    """
    if file is None:
        yield
        return
    with writing(file):
        lock = _beside(file, LOCK).open("ab")
    with lock:
        until = time.monotonic() + WAIT
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > until:
                    raise OutputError("somebody else is writing", where=str(file), fix="try again") from None
                time.sleep(0.01)
        yield


def write_seal(file: Path | None, head: Head) -> None:
    """Seal the registry in ``file``, locked and just written."""
    if file is not None:
        write_file(_beside(file, SEAL), _text(head, file_hash(file)))


def check_seal(file: Path | None, head: Head, hash_of: Callable[[int], str | None]) -> tuple[str, ...]:
    """Compare the registry in ``file``, held against writers, with its seal.

    Args:
        file: None for databases on a server, which have none.
        head: of the entries as they are.
        hash_of: gives the hash of the entry with a number.

    Returns:
        What has to be said of it although nothing is wrong.

    Raises:
        ArtifactError: entries are missing, a byte of the file or the seal was altered.
    """
    if file is None:
        return ()
    path = _beside(file, SEAL)
    if not path.exists():
        return (
            ()
            if not head.number
            else ("its seal is missing: unused bytes of the file were not checked, nor its end",)
        )
    altered = ArtifactError(
        "the file was altered beside its entries, or its seal was", where=str(file), fix="restore a backup"
    )
    try:
        data = path.read_bytes()
        content = json.loads(data)
        sealed, whole = Head.parse(content["head"]), str(content["file"])
    except (OSError, ValueError, LookupError, TypeError, UsageError):
        raise altered from None
    if data != _text(sealed, whole):
        raise altered
    if sealed.number > head.number:
        raise ArtifactError(
            f"ends at entry {head.number}; it was sealed at {sealed.number}",
            where=str(file),
            fix="restore it from a backup",
        )
    if sealed.number == head.number and (sealed != head or whole != file_hash(file)):
        raise altered
    if sealed.number < head.number and hash_of(sealed.number) != sealed.hash:
        raise altered
    if sealed.number < head.number:
        return (f"it was sealed at entry {sealed.number} only: adding the next one was cut off",)
    return ()


def _beside(file: Path, ending: str) -> Path:
    return file.with_name(file.name + ending)


def _text(head: Head, whole: str) -> bytes:
    return as_json({"head": str(head), "file": whole})
