"""The manifest of a finished run: which files belong to it, what they hash to, and its own digest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from freehold.artifacts.files import as_json, file_hash, fingerprint
from freehold.errors import ArtifactError, MissingInputError

FORMAT = 1
RUN, MANIFEST = "run.json", "MANIFEST.json"


def files_of(folder: Path) -> dict[str, Path]:
    """Everything in ``folder`` that is not itself a folder, by its path in it."""
    inside = [p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir()]
    return {path.relative_to(folder).as_posix(): path for path in sorted(inside)}


def manifest(hashes: Mapping[str, str]) -> bytes:
    """The one valid text of a manifest over these files; any other bytes are an alteration."""
    body = {"format": FORMAT, "files": dict(hashes)}
    return as_json({**body, "digest": fingerprint(body)})


def verify_run(path: Path) -> dict[str, Any]:
    """Check every byte of a finished run against its manifest, and return its ``run.json``.

    Raises:
        MissingInputError: there is no such folder.
        ArtifactError: names the first file that is altered, missing or was added.
    """
    path = Path(path)
    if not path.is_dir():
        raise MissingInputError("there is no such run directory", where=str(path))
    expected = _expected(path / MANIFEST)
    found = files_of(path)
    del found[MANIFEST]
    for name in sorted({*expected, *found}):
        if name not in found:
            raise ArtifactError(
                "is missing from the run", where=str(path / name), fix="restore it or run again"
            )
        if name not in expected:
            raise ArtifactError("was added to the run", where=str(path / name), fix="move it elsewhere")
        if found[name].is_symlink() or file_hash(found[name]) != expected[name]:
            raise _altered(path / name)
    try:
        run: dict[str, Any] = dict(json.loads((path / RUN).read_bytes()))
    except (OSError, ValueError, TypeError):
        raise ArtifactError("describes no run", where=str(path / RUN)) from None
    return run


def _expected(path: Path) -> dict[str, str]:
    try:
        text = path.read_bytes()
    except OSError:
        raise ArtifactError(
            "is no finished run: it has no manifest",
            where=str(path.parent),
            fix="name a folder made by freehold",
        ) from None
    try:
        data = json.loads(text)
        hashes = dict(data["files"])
        intact = text == manifest(hashes)
    except (ValueError, LookupError, TypeError, RecursionError):
        raise _altered(path) from None
    if not intact:
        raise _altered(path)
    return hashes


def _altered(path: Path) -> ArtifactError:
    return ArtifactError("was altered after the run", where=str(path), fix="restore it or run again")
