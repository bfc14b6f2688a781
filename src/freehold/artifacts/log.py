"""The structured log of a run."""

from __future__ import annotations

import contextlib
import json
import logging
from datetime import UTC, datetime
from pathlib import Path


class RunLog(logging.Handler):
    """Collects the package's log records from INFO up, one JSON object a line, until it is closed.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(logging.INFO)
        cut_off = path.exists() and not path.read_bytes().endswith(b"\n")
        self._file = path.open("a", encoding="utf-8", errors="backslashreplace")
        self._file.write("\n" if cut_off else "")
        self._source = logging.getLogger("freehold")
        self._level = self._source.level
        self._source.setLevel(min(self._source.getEffectiveLevel(), logging.INFO))
        self._source.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Append one line. A full disk is left to the files that matter to report."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        with contextlib.suppress(OSError, ValueError):
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Stop listening; a second call does nothing."""
        if self in self._source.handlers:
            self._source.removeHandler(self)
            self._source.setLevel(self._level)
        with contextlib.suppress(OSError):
            self._file.close()
        super().close()
