"""kill -9 at random moments: what is published is whole or absent, and the same command completes it.

    python benchmarks/kill.py [POINTS] [CASE ...]

POINTS is 30 by default. Writes benchmarks/results/evidence/kill.json. A new case is one entry of CASES: it
prepares a folder and says which command makes which output there, and how to tell that the output is whole.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import scipy.special  # noqa: F401

import freehold.evidence.release  # with it, what every child would otherwise import again
from freehold.artifacts import file_hash, verify_run
from freehold.cli.app import main as freehold

RESULTS = Path(__file__).parent / "results" / "evidence" / "kill.json"
PASSPHRASE = "correct horse battery staple"
DATA = ("data.authorized=digits-m", "data.unauthorized=digits", "data.image_size=16", "train.threads=1")


@dataclass(frozen=True)
class Case:
    """A command, what it makes, and what must be true of that.

    Attributes:
        command: arguments of ``freehold``.
        output: what appears whole or not at all.
        whole: raises if the output is anything but whole; returns what must be the same in every repeat.
    """

    command: list[str]
    output: Path
    whole: Callable[[Path], str]


def sets(*pairs: str) -> list[str]:
    return [word for pair in pairs for word in ("--set", pair)]


def run_weights(path: Path) -> str:
    """Every byte of a run or release is checked; its weights are what a repeat must give again."""
    verify_run(path)
    return file_hash(path / "model.safetensors")


def source(folder: Path) -> Path:
    path = folder / "source"
    made(["train", *sets("model.uri=convnet", *DATA, "train.steps=20"), "--out", str(path)])
    return path


def protect(folder: Path) -> Case:
    weights = f"model.weights={source(folder)}"
    fields = ("method.name=map", "method.steps=60", "train.checkpoint_seconds=0")
    out = folder / "bound"
    return Case(["protect", *sets(weights, *DATA, *fields), "--out", str(out)], out, run_weights)


def export(folder: Path) -> Case:
    marked, out = folder / "marked", folder / "released"
    fields = ("method.steps=10", "method.batch_size=8", "method.triggers=60")
    made(["watermark", str(source(folder)), *sets(*fields), "--out", str(marked)])
    key = folder / "marked.key"
    return Case(["export", str(marked), str(out), "--key", str(key)], out, run_weights)


CASES: dict[str, Callable[[Path], Case]] = {"protect": protect, "export": export}


def started(command: list[str]) -> int:
    """The process id of ``command`` under way in a child of this process, which computes nothing itself."""
    if child := os.fork():
        return child
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os._exit(freehold(command))


def made(command: list[str]) -> float:
    """Run ``command`` to its end; how long it took."""
    began = time.monotonic()
    code = os.waitstatus_to_exitcode(os.waitpid(started(command), 0)[1])
    if code not in (0, 1):  # 1: a mark too short to show, which is no concern here
        raise SystemExit(f"{' '.join(command)} ended with {code}")
    return time.monotonic() - began


def cleared(case: Case) -> None:
    for path in case.output.parent.glob(f"*{case.output.name}*"):
        if path.name != f"{case.output.name}.key":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def try_case(name: str, points: int) -> dict[str, Any]:
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        case = CASES[name](Path(folder))
        latest = made(case.command)
        expected = case.whole(case.output)
        told: dict[str, Any] = {"points": points, "absent": 0, "whole": 0, "completed": 0, "same": 0}
        moments = []
        while len(moments) < points:
            cleared(case)
            moment = draw.uniform(0, latest)
            child = started(case.command)
            time.sleep(moment)
            os.kill(child, signal.SIGKILL)
            if not os.WIFSIGNALED(os.waitpid(child, 0)[1]):
                latest = moment  # it was faster than the last one, and nothing was killed
                continue
            if case.output.exists():
                case.whole(case.output)
                told["whole"] += 1
            else:
                told["absent"] += 1
            latest = made(case.command)
            told["completed"] += 1
            told["same"] += case.whole(case.output) == expected
            moments.append(round(moment, 3))
            print(f"{name}: {len(moments)} of {points}", file=sys.stderr)
    return {**told, "killed_after_s": sorted(moments)}


def main() -> None:
    os.environ["FREEHOLD_PASSPHRASE"] = PASSPHRASE
    os.environ["FREEHOLD_CACHE"] = tempfile.mkdtemp()
    points = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in sys.argv[2:] or CASES:
        found[name] = try_case(name, points)
        print(name, json.dumps(found[name]))
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
        if found[name]["same"] != points:
            sys.exit(1)


if __name__ == "__main__":
    main()
