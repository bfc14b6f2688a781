"""Locks that the system lets go of when their process ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from freehold.artifacts.files import writing
from freehold.errors import OutputError


def acquire(path: Path, *, busy: str = "another process is working on this run", wait: bool = False) -> int:
    """A descriptor that holds the lock at ``path``; :func:`release` ends it.

    Args:
        path: of the lock file, made if need be.
        busy: what to say if another process holds it.
        wait: until it is free.

    Raises:
        OutputError: held by another process, unless ``wait``.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):  # whoever held it before may have removed the file
                if os.fstat(handle).st_ino == path.stat().st_ino:
                    return handle
        except BlockingIOError:
            os.close(handle)
            raise OutputError(busy, where=str(path), fix="wait for it or choose another folder") from None
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def release(path: Path, handle: int) -> None:
    """Let go of a lock and remove its file."""
    with contextlib.suppress(OSError):
        path.unlink()
    os.close(handle)


@contextlib.contextmanager
def locked(path: Path, *, busy: str = "", wait: bool = False) -> Iterator[None]:
    """Hold the lock at ``path``, whose folder is made if need be; arguments as :func:`acquire`.

    Raises:
        OutputError: as :func:`acquire`, or the folder cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = acquire(path, busy=busy, wait=wait)
    try:
        yield
    finally:
        release(path, handle)
