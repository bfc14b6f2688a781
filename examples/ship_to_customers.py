"""Ship a network to customers: mark it, publish a folder that tells nothing of the key, check what came out.

    python examples/ship_to_customers.py [STEPS]

For whoever keeps a model registry. STEPS is the length of training and marking; 200 takes half a minute on
one CPU core and gives a mark that shows. The last lines are the gate of a build: they fail if anything is
amiss.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import freehold as fh
from freehold.config import from_json
from freehold.evidence.release import export
from freehold.evidence.scan import scan
from freehold.jobs import train
from freehold.jobs.marking import watermark

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 200
data = {"authorized": "digits-m", "image_size": 16}
with tempfile.TemporaryDirectory() as folder:
    runs, phrase = Path(folder), "correct horse battery staple"  # ask for a better one, and keep it elsewhere

    setting = {"model": {"uri": "convnet"}, "data": data, "train": {"steps": steps, "batch_size": 32}}
    train(from_json(setting), runs / "source", progress=False)

    method = {"name": "trigger-set", "recipe": "plain", "steps": steps, "lr": 0.001, "batch_size": 32}
    setting |= {"model": {"weights": str(runs / "source")}, "method": method}
    marked = watermark(
        from_json(setting),
        runs / "marked",
        runs / "acme.key",
        lambda new: phrase,
        owner="ACME",
        progress=False,
    )
    for sentence in marked.summary:
        print(sentence)
    print(f"publish this before the release: {marked.commitment}")

    key = fh.Key.load(runs / "acme.key", phrase)
    release = export(runs / "marked", runs / "digits-reader", key=key, license="proprietary")
    print("released:", ", ".join(sorted(path.name for path in release.directory.iterdir())))

    # What a customer does before he opens it, and what the build asks of it.
    found = scan(release.directory / "model.safetensors")
    verdict = fh.verify(fh.suspect(release.directory), key, commitment=marked.commitment)
    print(f"{found.verdict}: {found.tensors} tensors; {verdict.decision}: {verdict.reason}")
    if found.verdict != "SAFE" or not release.searched:
        sys.exit("not fit to be shipped")
