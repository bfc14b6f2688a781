"""Results on disk: one JSON a finished cell, written once and whole; one a failed cell, until it succeeds."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from freehold.artifacts import as_json, fingerprint, write_file
from freehold.artifacts.files import writing
from freehold.artifacts.locks import locked
from freehold.bench.cell import FORMAT, Cell
from freehold.errors import ArtifactError, OutputError

STATES = ("done", "inapplicable", "failed")
_HEAD, _NECK = b'{\n "sha256": "', b'",\n'


@dataclass(frozen=True)
class Outcome:
    """What became of a cell.

    Attributes:
        cell: which.
        status: ``done``; ``inapplicable`` where method or attack says that it cannot run on this, which is an
            answer as well; ``failed`` otherwise, and then the next run tries again.
        result: the figures, a function of the cell alone; None unless done.
        error: why not.
        made: seconds, device, versions: what differs from machine to machine.
    """

    cell: Cell
    status: str
    result: dict[str, Any] | None
    error: str = ""
    made: Mapping[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether the cell need not be run again."""
        return self.status != "failed"

    @property
    def digest(self) -> str:
        """Of the figures; equal bits, equal digest."""
        return fingerprint([self.status, self.result])

    def to_json(self) -> dict[str, Any]:
        """As JSON-able data."""
        return {
            "name": self.cell.name,
            "cell": self.cell.to_json(),
            "status": self.status,
            "error": self.error,
            "made": dict(self.made),
            "result": self.result,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outcome:
        """What :meth:`to_json` gave.

        Raises:
            ValueError, LookupError, TypeError: it is something else.
        """
        if data["cell"]["format"] != FORMAT or data["status"] not in STATES:
            raise ValueError("of another version")
        cell = Cell(data["cell"]["config"], data["cell"]["trial"])
        return cls(cell, data["status"], data["result"], data["error"], data["made"])

    def to_bytes(self) -> bytes:
        """The text of a result file: one JSON object whose first member is the hash of all lines after it."""
        rest = as_json(self.to_json()).removeprefix(b"{\n")
        return _HEAD + hashlib.sha256(rest).hexdigest().encode() + _NECK + rest


class Store:
    """A results folder.

    Args:
        folder: made when the first cell is written.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._cells, self._failed = self.folder / "cells", self.folder / "failed"

    @contextmanager
    def driving(self) -> Iterator[None]:
        """Be the one process that writes here.

        Raises:
            OutputError: another one is, or the folder cannot be written.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise OutputError("is no folder", where=str(self.folder), fix="choose another --results")
        with locked(self.folder / ".lock", busy="another process writes to these results"):
            yield

    def outcomes(self) -> dict[str, Outcome]:
        """Every finished cell by name, and every failed one that has not been finished since.

        Raises:
            ArtifactError: names the first file that is truncated, altered or not of ours.
        """
        return dict(_read(self._failed)) | dict(_read(self._cells))

    def write(self, outcome: Outcome) -> None:
        """Keep an outcome. A finished cell is never written over.

        Raises:
            OutputError: it cannot be written, or the cell is finished already.
        """
        path = (self._cells if outcome.finished else self._failed) / f"{outcome.cell.name}.json"
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and outcome.finished:
            raise OutputError("the cell has its result already", where=str(path))
        write_file(path, outcome.to_bytes())
        if outcome.finished:
            with suppress(OSError):
                (self._failed / path.name).unlink()


def _read(folder: Path) -> Iterator[tuple[str, Outcome]]:
    """Name and outcome of every result in ``folder``."""
    if not folder.is_dir():
        return
    for file in sorted(os.listdir(folder)):  # noqa: PTH208 - names alone, ten thousand of them
        if file.endswith(".tmp"):
            continue  # of a writer that was killed
        path = f"{folder}/{file}"
        try:
            with open(path, "rb") as opened:  # noqa: PTH123 - as above
                text = opened.read()
            start = len(_HEAD) + 64
            if text[:start] != _HEAD + hashlib.sha256(text[start + len(_NECK) :]).hexdigest().encode():
                raise ValueError("altered")
            data = json.loads(text)
            if file != f"{data['name']}.json":
                raise ValueError("renamed")
            yield data["name"], Outcome.from_json(data)
        except OSError as error:
            raise ArtifactError(f"cannot be read: {error.strerror}", where=path) from None
        except (ValueError, LookupError, TypeError, RecursionError):
            raise ArtifactError(
                "is no result of this benchmark, or not all of one",
                where=path,
                fix="move it away; a cell without a file is run again",
            ) from None
