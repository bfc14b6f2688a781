"""Load a pickle that asks for tensors only, in a process of its own that can do little else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

from freehold.evidence.scan.report import Notes, printable

LARGEST = 4 << 30  # bytes of a file that is loaded
SECONDS = 120


def load_apart(file: BinaryIO, size: int, notes: Notes) -> None:
    """Count the tensors of ``file`` by torch's restricted reader in a child process.

    The child gets the open file and nothing else: no path, no environment. It may use as much memory as
    the tensors need, two minutes, no network, no other process and no file.
    """
    if size > LARGEST:
        notes.counted = False
        notes.add("doubt", "", f"of more than {LARGEST} bytes: its instructions were read, its tensors not")
        return
    file.seek(0)
    command = [sys.executable, "-I", str(Path(__file__).with_name("inside.py"))]
    try:
        ended = subprocess.run(
            command,
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"OMP_NUM_THREADS": "1"},
            timeout=SECONDS,
            check=False,
        )
        told = json.loads(ended.stdout[: 1 << 16])
        if "refused" in told:
            raise ValueError(told["refused"])
        for kind, count in told["kinds"].items():
            notes.kinds[printable(kind)] = int(count)
        notes.tensors, notes.numbers = int(told["tensors"]), int(told["numbers"])
        notes.odd("", int(told["nan"]), int(told["infinite"]))
    except subprocess.TimeoutExpired:
        notes.counted = False
        notes.add("doubt", "", f"loading its tensors takes more than {SECONDS} s")
    except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        notes.counted = False
        reason = str(error) if isinstance(error, ValueError) and "refused" in locals().get("told", {}) else ""
        notes.add("doubt", "", f"torch does not load its tensors: {printable(reason) or 'no answer'}")
