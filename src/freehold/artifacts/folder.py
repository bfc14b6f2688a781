"""A run under way: its lock, its partial folder, and how that becomes the finished run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from freehold.artifacts.files import as_json, file_hash, sync, write_file, writing
from freehold.artifacts.locks import acquire, release
from freehold.artifacts.log import RunLog
from freehold.artifacts.manifest import FORMAT, MANIFEST, RUN, files_of, manifest, verify_run
from freehold.errors import OutputError, UsageError

_KEPT = (".state", ".last-good.safetensors")  # what makes an unfinished run worth keeping
_PASSING = (*_KEPT, ".tmp")  # endings of files that a finished run does not need


def finished(path: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """``run.json`` of the verified run at ``path`` if it is finished, None if there is work to do.

    Args:
        path: the run directory.
        identity: JSON-able account of what is to be computed; equal identity means equal results.

    Raises:
        OutputError: ``path``, or its unfinished part, belongs to another identity or to someone else.
        ArtifactError: it is finished but damaged.
    """
    if path.name in ("", ".."):
        raise UsageError(
            "names no folder of its own", where=str(path), fix="give the run a name, such as runs/a"
        )
    if path.is_dir() and any(path.iterdir()):
        if not (path / RUN).exists():
            raise OutputError(
                "the folder is in use and holds no run", where=str(path), fix="choose another folder"
            )
        run = verify_run(path)
        _same_identity(run.get("identity"), identity, path, "choose another folder")
        return run
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise OutputError("a file of this name exists", where=str(path), fix="choose another folder")
    _begun(_partial(path), identity)
    return None


class RunFolder:
    """A run under way; the context in which its files are written.

    Entering takes the lock, so that two processes never work on one run, and creates the partial
    folder or goes on in it. Leaving it by an error keeps the folder only if there is resumable state.

    Args:
        path: where the run will stand when it is published.
        identity: what is computed, see :func:`finished`.
        header: what else ``run.json`` is to say from the start.
        writes: False for a process that only computes along (all but the first of a distributed launch).
        logs: False for a folder that strangers get: no log lies in it.

    Raises:
        OutputError: locked by another process, foreign, or not writable.
    """

    def __init__(
        self,
        path: Path,
        identity: Mapping[str, Any],
        header: Mapping[str, Any],
        *,
        writes: bool = True,
        logs: bool = True,
    ) -> None:
        self.final, self.path = path, _partial(path)
        self.writes, self.resumed, self._logs = writes, False, logs
        self._run = {"format": FORMAT, **header, "identity": dict(identity), "status": "running"}
        self._lock = path.with_name(f".{path.name}.lock")
        self._handle = -1
        self._ours = False
        self._log: RunLog | None = None

    def __enter__(self) -> Self:
        if self.writes:
            with writing(self.final):
                self.final.parent.mkdir(parents=True, exist_ok=True)
                self._handle = acquire(self._lock)
            try:
                self._open()
            except BaseException:
                self._leave(failed=True)
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.writes:
            self._leave(failed=kind is not None)

    def write(self, name: str, data: bytes) -> None:
        """Write one file of the run whole or not at all; nothing in processes that do not write."""
        if self.writes:
            write_file(self.path / name, data)

    def publish(self, **results: Any) -> None:
        """Finish ``run.json`` with ``results``, seal all files by a manifest and give the run its name.

        Raises:
            OutputError: something cannot be written; resumable state is kept then.
        """
        if not self.writes:
            return
        if self._log is not None:
            self._log.close()
        self.write(RUN, as_json({**self._run, **results, "status": "finished", "finished": _now()}))
        with writing(self.path):
            hashes = {}
            for name, file in files_of(self.path).items():
                if not _passing(name):
                    sync(file)
                    hashes[name] = file_hash(file)
            write_file(self.path / MANIFEST, manifest(hashes))
            for name, file in files_of(self.path).items():
                if _passing(name):
                    file.unlink()
            sync(self.path)
            self.path.chmod(0o700 | self.final.parent.stat().st_mode & 0o755)
            self.path.rename(self.final)
            sync(self.final.parent)

    def _open(self) -> None:
        if self.final.is_dir() and any(self.final.iterdir()):
            raise OutputError(
                "another process has just finished this run",
                where=str(self.final),
                fix="run the same command again",
            )
        begun = _begun(self.path, self._run["identity"])
        self._ours = True
        with writing(self.path):
            # Its owner's alone: states may hold what a key learns.
            self.path.mkdir(mode=0o700, exist_ok=True)
            (self.path / MANIFEST).unlink(missing_ok=True)
            self.resumed = any(self.path.glob("*.state"))
            self._run["started"] = begun["started"] if begun else _now()
            self.write(RUN, as_json(self._run))
            self._log = RunLog(self.path / "log.jsonl") if self._logs else None

    def _leave(self, *, failed: bool) -> None:
        if self._log is not None:
            self._log.close()
        if failed and self._ours and not any(p.name.endswith(_KEPT) for p in self.path.glob("*")):
            shutil.rmtree(self.path, ignore_errors=True)
        release(self._lock, self._handle)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _begun(partial: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """``run.json`` of an unfinished run of the same identity, None where there is none."""
    fix = f"delete {partial} or choose another folder"
    try:
        run: dict[str, Any] = dict(json.loads((partial / RUN).read_bytes()))
        old = (run["identity"], run["started"])[0]
    except (FileNotFoundError, NotADirectoryError):
        if partial.is_dir() and any(not _passing(p.name) for p in partial.iterdir()):
            raise OutputError("holds files of someone else", where=str(partial), fix=fix) from None
        return None
    except (OSError, ValueError, LookupError, TypeError):
        raise OutputError("the unfinished run cannot be read", where=str(partial), fix=fix) from None
    _same_identity(old, identity, partial, fix)
    return run


def _same_identity(old: Any, new: Mapping[str, Any], path: Path, fix: str) -> None:
    new = json.loads(json.dumps(new))
    if old != new:
        raise OutputError(
            f"holds a run of another configuration: {_difference(old, new)}", where=str(path), fix=fix
        )


def _difference(old: Any, new: Any, where: str = "") -> str:
    """The first value, by dotted path, that two identities do not share."""
    if isinstance(old, dict) and isinstance(new, dict):
        key = next(
            key
            for key in sorted({*old, *new})
            if old.get(key) != new.get(key) or (key in old) != (key in new)
        )
        return _difference(old.get(key), new.get(key), f"{where}.{key}" if where else key)
    return f"{where} is {old!r:.60} there and {new!r:.60} here"


def _passing(name: str) -> bool:
    return name.endswith(_PASSING) or name.rsplit("/", 1)[-1].startswith(".")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
