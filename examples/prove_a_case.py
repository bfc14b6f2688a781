"""Somebody sells a network that looks like yours. From the mark to evidence that a stranger can check.

    python examples/prove_a_case.py [STEPS]

STEPS is the length of training and of the theft; 200 takes twenty seconds on one CPU core.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from freehold.config import from_json
from freehold.data.sources import load_domain
from freehold.evidence.check import Known
from freehold.evidence.recording import record_of
from freehold.evidence.registry import Registry
from freehold.evidence.signature import generate, load_private, load_public
from freehold.jobs import train, verify, watermark
from freehold.jobs.checking import check
from freehold.jobs.claiming import claim
from freehold.keys import Key
from freehold.models.checkpoint import load_checkpoint, save_checkpoint
from freehold.training import Run, Trainer
from freehold.training.classifier import Supervised, train_classifier

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 200
data = {"authorized": "digits-m", "image_size": 16, "limit": 400}


def run(folder: Path) -> None:
    # Before the release: mark the network, claim it, publish the claim.
    config = {"data": data, "train": {"steps": steps}}
    train(from_json({**config, "model": {"uri": "convnet"}}), folder / "source", progress=False)
    marked = {
        "model": {"weights": str(folder / "source")},
        "method": {"name": "ptynet", "families": 24, "steps": 150, "lr": 6e-3},
    }
    watermark(
        from_json({**config, **marked}), folder / "marked", folder / "acme.key", lambda new: "one two three",
        owner="ACME Ltd", progress=False,
    )  # fmt: skip
    key = Key.load(folder / "acme.key", "one two three")
    generate(folder / "acme.pem", "four five six")
    signer = load_private(folder / "acme.pem", lambda: "four five six")
    claim(folder / "marked", key, signer, folder / "claim.json")
    registry = Registry(str(folder / "claims.db"))
    entry, _ = registry.add(record_of(folder / "claim.json"))
    print(f"claimed a network for {data['authorized']}: entry {entry.number}, {entry.record.digest[:16]}…")

    # A thief takes it, trains it a little further, and sells it.
    model, recipe = load_checkpoint(folder / "marked")
    domain = load_domain("digits-m", image_size=16, limit=400, seed=1)
    thief = Trainer(Run(seed=1, device="cpu", progress=False))
    train_classifier(model, domain, recipe.input, Supervised(steps=max(1, steps // 4), lr=1e-3), thief)
    save_checkpoint(folder / "sold", model, recipe)

    # The owner asks it, and packs what a stranger needs to see for himself.
    case = folder / "case.zip"
    found = verify(
        [folder / "sold"], key, claim=folder / "claim.json", bundle=case, page=folder / "page.html"
    )
    verdict = found.verdicts[0]
    print(f"{verdict.decision}: {verdict.matches} of {verdict.trials}, p = {verdict.p_adjusted:.1e}")
    if found.bundle is None:
        sys.exit("nothing to show")

    # The stranger has the bundle, the published key of the owner, the release and the network that is sold.
    known = Known(signer=load_public(folder / "acme.pem.pub"), release=folder / "marked")
    checked = check(case, known, suspect=str(folder / "sold"))
    for link in checked.checked.links:
        print(f"  {link.state}: {link.name}, {link.says}")

    # The team keeps claim and case, and writes the head down where nobody can change it.
    registry.add(record_of(case))
    print(f"registry of {registry.verify().head.number} entries, head {registry.verify().head}")


with tempfile.TemporaryDirectory() as place:
    run(Path(place))
