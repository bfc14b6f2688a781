"""How long claim, export, verify and check of a ResNet-20 take: each a process of its own, and in one.

    python benchmarks/evidence_speed.py            writes benchmarks/results/evidence/speed.json

The network learns digits for a moment only and carries a PTYNet mark; no time depends on how good it is.
Wall time is worth something on a quiet machine: its load before and after is written beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from freehold.config import from_json
from freehold.evidence.signature import generate
from freehold.jobs import train, watermark
from freehold.protection import versions

RESULTS = Path(__file__).parent / "results" / "evidence"
SECRET = {"FREEHOLD_PASSPHRASE": "a", "FREEHOLD_SIGNING_PASSPHRASE": "b"}


def marked(folder: Path) -> None:
    """A marked ResNet-20 in ``run``, ``own.key`` beside it, and ``own.pem`` to sign with."""
    setting = {"data": {"authorized": "digits", "limit": 200}, "train": {"steps": 10}}
    train(from_json({**setting, "model": {"uri": "resnet20"}}), folder / "source", progress=False)
    method = {"name": "ptynet", "families": 24, "steps": 150, "lr": 6e-3}
    config = from_json({**setting, "model": {"weights": str(folder / "source")}, "method": method})
    phrase = SECRET["FREEHOLD_PASSPHRASE"]
    watermark(config, folder / "run", folder / "own.key", lambda new: phrase, owner="ACME", progress=False)
    generate(folder / "own.pem", SECRET["FREEHOLD_SIGNING_PASSPHRASE"])


TOGETHER = """
import sys
from freehold.cli.app import main
commands = " ".join(sys.argv[1:]).split(" ; ")
sys.exit(max(main(command.split()) for command in commands))
"""


def timed(
    folder: Path, expected: int, *words: str, program: tuple[str, ...] = ("-m", "freehold"), name: str = ""
) -> dict[str, Any]:
    """One process, from its start to its end."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    ended = subprocess.run(
        [sys.executable, *program, *words],
        cwd=folder, env={**os.environ, **SECRET}, capture_output=True, text=True,
    )  # fmt: skip
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert ended.returncode == expected, ended.stderr
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    command = name or " ".join(("freehold", *words))
    return {"command": command, "wall_s": round(wall, 2), "cpu_s": round(cpu, 2)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=RESULTS / "speed.json")
    out, before = parser.parse_args().out, os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        marked(folder)
        steps = [
            timed(folder, 0, "claim", "run", "own.key", "--owner-key", "own.pem"),
            timed(folder, 0, "export", "run", "out", "--key", "own.key", "--claim", "claim.json"),
            timed(folder, 0, "verify", "out", "own.key", "--claim", "claim.json", "--bundle", "case.zip"),
        ]
        together = {f: round(sum(step[f] for step in steps), 2) for f in ("wall_s", "cpu_s")}
        again = (
            "claim run own.key --owner-key own.pem -o other.json ; "
            "export run other --key own.key --claim other.json ; "
            "verify other own.key --claim other.json --bundle other.zip"
        )
        in_one = "claim, export and verify, one process"
        steps += [
            {"command": "claim, export and verify, three processes", **together},
            timed(folder, 0, program=("-c", "import torch"), name="python -c 'import torch'"),
            timed(folder, 0, *again.split(), program=("-c", TOGETHER), name=in_one),
            timed(folder, 2, "check", "claim.json"),  # 2: links are open, since nothing else is handed in
            timed(folder, 2, "check", "case.zip"),
        ]
        size = (folder / "case.zip").stat().st_size
    load = [round(before, 1), round(os.getloadavg()[0], 1)]
    found = {"versions": versions(), "load": load, "bundle_bytes": size, "steps": steps}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
