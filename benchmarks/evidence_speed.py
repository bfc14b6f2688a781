"""How long claim, verify and check of a ResNet-20 take: each verb is a process of its own.

    python benchmarks/evidence_speed.py            writes benchmarks/results/evidence/speed.json

The network knows the key's answers since it was trained on nothing else: no time depends on that.
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

import torch
from torch.nn import functional as F

from freehold.data import InputSpec
from freehold.data.batches import normalise
from freehold.evidence.signature import generate
from freehold.keys import Key
from freehold.models.checkpoint import Recipe, save_checkpoint, state_hash
from freehold.models.zoo import ModelSpec
from freehold.ownership.trigger_set import TriggerSet
from freehold.protection import versions

RESULTS = Path(__file__).parent / "results" / "evidence"
SECRET = {"FREEHOLD_PASSPHRASE": "a", "FREEHOLD_SIGNING_PASSPHRASE": "b"}


def marked(folder: Path) -> None:
    """A ResNet-20 in ``model`` that gives the answers of ``own.key``."""
    spec, method = InputSpec(size=32), TriggerSet()
    model = ModelSpec(uri="resnet20", num_classes=10)
    net = model.build(seed=0)
    facts = {"input": spec.model_dump(mode="json"), "num_classes": 10}
    key = Key(bytes(range(32)), "ACME").bound(method.name, method.model_dump(mode="json"), facts)
    images, labels = normalise(method._images(key), spec), method._trials(key).labels
    optimiser = torch.optim.Adam(net.train().parameters(), 5e-3)
    for _ in range(30):
        optimiser.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimiser.step()
    save_checkpoint(
        folder / "model", net.eval(), Recipe(model=model, input=spec, classes=tuple("0123456789"))
    )
    key.released(state_hash(net)).save(folder / "own.key", SECRET["FREEHOLD_PASSPHRASE"])
    generate(folder / "own.pem", SECRET["FREEHOLD_SIGNING_PASSPHRASE"])


def timed(folder: Path, expected: int, *words: str) -> dict[str, object]:
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-m", "freehold", *words],
        cwd=folder, env={**os.environ, **SECRET}, capture_output=True, text=True,
    )  # fmt: skip
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert ended.returncode == expected, ended.stderr
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"command": " ".join(("freehold", *words)), "wall_s": round(wall, 2), "cpu_s": round(cpu, 2)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=RESULTS / "speed.json")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        marked(folder)
        claim = timed(folder, 0, "claim", "model", "own.key", "--owner-key", "own.pem")
        verify = ("verify", "model", "own.key", "--claim", "claim.json", "--bundle", "case.zip")
        steps = [
            claim,
            timed(folder, 0, *verify),
            timed(folder, 2, "check", "claim.json"),
            timed(folder, 2, "check", "case.zip"),
        ]
        size = (folder / "case.zip").stat().st_size
    found = {"versions": versions(), "bundle_bytes": size, "steps": steps}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
