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
    the tensors need, two minutes, no network, no other process and no file. Where it left off reading is
    where ``file`` stands afterwards.
    """
    if size > LARGEST:
        _unknown(notes, f"of more than {LARGEST} bytes: its instructions were read, its tensors not")
        return
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
        _unknown(notes, f"loading its tensors takes more than {SECONDS} s")
    except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        reason = "no answer" if isinstance(error, json.JSONDecodeError | OSError) else printable(str(error))
        _unknown(notes, f"torch does not load its tensors: {reason}")


def _unknown(notes: Notes, why: str) -> None:
    notes.counted = False
    notes.add("doubt", "", why)
