"""Single files: written whole or not at all, and known by their hashes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from freehold.errors import OutputError

_BARE = re.compile(r"[A-Za-z0-9_-]+")  # a TOML key that needs no quotes


def as_json(data: Any) -> bytes:
    """``data`` as the JSON text that all files of a run use."""
    return (json.dumps(data, indent=1, allow_nan=False) + "\n").encode()


def fingerprint(data: Any) -> str:
    """SHA-256 (hex) of JSON-able ``data``, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 (hex) of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns the system's refusal to write into an :class:`~freehold.errors.OutputError` about ``path``."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        fix = "free some space and run the same command again" if full else "choose a folder you may write to"
        raise OutputError(f"cannot write: {error.strerror or error}", where=str(path), fix=fix) from error


def write_file(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` whole or not at all.

    Raises:
        OutputError: no space, no permission; what stood there before still stands.
    """
    temporary = path.with_name(path.name + ".tmp")
    with writing(path):
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def as_toml(data: Mapping[str, Any], path: tuple[str, ...] = ()) -> str:
    """Tables, lists, texts, numbers and truth values as a TOML document; ``path`` is for nested tables."""
    flat = {key: value for key, value in data.items() if not isinstance(value, Mapping)}
    tables = {key: value for key, value in data.items() if isinstance(value, Mapping) and value}
    lines = [f"[{'.'.join(map(_key, path))}]"] if path else []
    lines += [f"{_key(key)} = {_literal(value)}" for key, value in flat.items()]
    own = "\n".join(lines) + "\n" if flat or not tables else ""
    return "\n".join(filter(None, [own, *(as_toml(table, (*path, key)) for key, table in tables.items())]))


def _literal(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _literal(key)
