"""Trigger sets on the pretrained CIFAR ResNet-20 and on MNIST: what they cost, and what attacks leave.

    python benchmarks/ownership_triggers.py mark [--marks plain app …]
    python benchmarks/ownership_triggers.py attack [--marks …] [--attacks quick] [--attacks FTLL FTAL …]

``mark`` keeps the marked models under .cache/ and writes their cost to results/ownership/trigger-set.json;
``attack`` adds one attack after the other, and leaves out those that are there. ``quick`` names the attacks
that take seconds to a minute; the published ones take 20 epochs each, the strong ones 30. The data is looked
for in FREEHOLD_DATA or ../shared/data beside the checkout. Times are processor seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from ownership_passport import trained
from torch import nn

import freehold as fh
from freehold.attacks.base import Attack
from freehold.attacks.fine_tune import FineTune
from freehold.attacks.prune import Prune
from freehold.attacks.quantize import Quantize
from freehold.keys import Key
from freehold.metrics.accuracy import predict
from freehold.models.zoo import ModelSpec
from freehold.ownership.base import verify
from freehold.ownership.suspect import suspect
from freehold.ownership.trigger_set import TriggerSet
from freehold.statistics import clopper_pearson
from freehold.training import Run
from freehold.training.classifier import Supervised

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("FREEHOLD_DATA", HERE.parents[1] / "shared" / "data"))
RESULT, CACHE = HERE / "results" / "ownership" / "trigger-set.json", HERE / ".cache"
IMAGENET = fh.InputSpec(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
DIGITS = {"kind_of_trigger": "abstract", "triggers": 40, "trigger_batch": 40, "lr": 1e-3, "steps": 3200}
MARKS = {
    "plain": TriggerSet(recipe="plain"),
    "app": TriggerSet(),
    "mnist plain": TriggerSet(recipe="plain", **DIGITS),
    "mnist app": TriggerSet(epsilon=0.12, moved_weight=0.3, **DIGITS),
}
STEPS = 100 * 64 / 9000  # epochs of the domain's 9,000 training images: a hundred steps
QUICK: dict[str, Attack] = {
    "half of the weights pruned": Prune(share=0.5),
    "8 bits": Quantize(bits=8),
    "5 bits": Quantize(bits=5),
    "4 bits": Quantize(bits=4),
    "FTAL, 100 steps of SGD 0.01": FineTune(epochs=STEPS),
    "FTAL, 100 steps of SGD 0.05": FineTune(epochs=STEPS, lr=0.05),
}
LONG: dict[str, Attack] = {
    "FTLL": FineTune(variant="FTLL"),
    "RTLL": FineTune(variant="RTLL"),
    "FTAL": FineTune(variant="FTAL"),
    "RTAL": FineTune(variant="RTAL"),
    "FTAL, strong": FineTune.strong(),
    "RTAL, strong": FineTune(variant="RTAL", **FineTune.stronger),
}
ATTACKS = QUICK | LONG


def loaded(mark: str) -> tuple[fh.Domain, nn.Module, fh.Recipe]:
    """The images, the model that is marked, and how it is built."""
    if mark.startswith("mnist"):
        domain = fh.load_domain(f"npz:{DATA}/mnist.npz", classes=10, limit=10_000)
        model, spec = trained("mnist-10000", domain, 0, Supervised(steps=1000)), fh.InputSpec()
    else:
        domain = fh.load_domain(f"npz:{DATA}/cifar10.npz", classes=10)
        model, spec = (
            fh.load_model("resnet20", 10, DATA / "weights" / "cifar10_resnet20.safetensors"),
            IMAGENET,
        )
    bare = ModelSpec(uri="convnet" if mark.startswith("mnist") else "resnet20", num_classes=10)
    return domain, model.eval(), fh.Recipe(model=bare, input=spec, classes=domain.classes)


def right(model: nn.Module, split: fh.Split, spec: fh.InputSpec) -> torch.Tensor:
    return predict(model, split, spec).cpu() == split.labels


def judged(model: nn.Module, key: Key, spec: fh.InputSpec) -> dict[str, Any]:
    found = verify(suspect(model, input=spec), key, commitment=key.commitment)
    return found.model_dump(mode="json", include={"decision", "matches", "trials", "p_adjusted"})


def results() -> dict[str, Any]:
    return json.loads(RESULT.read_text()) if RESULT.exists() else {}


def write(found: dict[str, Any]) -> None:
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(found, indent=1) + "\n")


def mark(name: str, args: argparse.Namespace) -> None:
    domain, model, recipe = loaded(name)
    spec = recipe.input
    began = time.process_time()
    protected = MARKS[name].protect(
        model,
        fh.Domains(domain, [], spec),
        run=Run(seed=0, device="cpu", precision=args.precision, progress=False),
        key=Key(bytes(range(32)), "benchmark"),
    )
    seconds = time.process_time() - began
    place = CACHE / f"triggers-{name}"
    protected.save(place, recipe)
    facts = {"facts": dict(protected.key.facts), "settings": dict(protected.key.settings)}
    (place / "key.json").write_text(json.dumps(facts))  # its secret is the numbers 0 to 31
    before, after = right(model, domain.test, spec), right(protected.model, domain.test, spec)
    lost, won = int((before & ~after).sum()), int((after & ~before).sum())
    result = {
        "fields": protected.record["fields"],
        "precision": args.precision,
        "processor seconds": round(seconds, 1),
        "best step": protected.record["histories"]["trigger-set"]["best_step"],
        "validation": protected.record["histories"]["trigger-set"]["validation"],
        "test accuracy before": float(before.float().mean()),
        "test accuracy": float(after.float().mean()),
        "cost, points": 100 * (lost - won) / len(before),
        # Of the images that only one of the two models knows, how many the marked one lost: a sign test.
        "only before, only after": [lost, won],
        "share lost of these": clopper_pearson(lost, lost + won)._asdict() if lost + won else None,
        "verdict": judged(protected.model, protected.key, spec),
        "verdict on the original": judged(model, protected.key, spec),
        "versions": protected.record["versions"],
        "attacks": {},
    }
    write(results() | {name: result})
    print(name, json.dumps({k: v for k, v in result.items() if k not in ("fields", "versions")}, indent=1))


def kept(name: str) -> tuple[nn.Module, Key]:
    place = CACHE / f"triggers-{name}"
    bound = json.loads((place / "key.json").read_text())
    key = Key(bytes(range(32)), "benchmark").bound("trigger-set", bound["settings"], bound["facts"])
    return fh.load_checkpoint(place)[0].eval(), key


def attack(mark: str, args: argparse.Namespace) -> None:
    domain, _, recipe = loaded(mark)
    model, key = kept(mark)
    for name in QUICK if args.attacks == ["quick"] else args.attacks:
        if name in results()[mark]["attacks"]:
            continue
        began = time.process_time()
        run = Run(seed=1, device="cpu", precision=args.precision, progress=False)
        found = ATTACKS[name].run(model, domain, recipe.input, run=run)
        result = {
            "fields": found.record["fields"],
            "steps": found.record["cost"]["steps"],
            "accuracy before": found.before.value,
            "accuracy": found.after.value,
            **judged(found.model, key, recipe.input),
            "last state": {"accuracy": found.at_end.value, **judged(found.last, key, recipe.input)},
            "processor seconds": round(time.process_time() - began, 1),
        }
        now = results()
        now[mark]["attacks"][name] = result
        write(now)
        shown = {k: v for k, v in result.items() if k not in ("fields", "processor seconds")}
        print(f"{mark:12} {name:30} {json.dumps(shown)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("mark", "attack"))
    parser.add_argument("--marks", nargs="*", default=list(MARKS), choices=list(MARKS))
    parser.add_argument("--attacks", nargs="*", default=list(ATTACKS), choices=["quick", *ATTACKS])
    parser.add_argument("--precision", default="bf16")
    if not DATA.is_dir():
        sys.exit(f"no data at {DATA}: set FREEHOLD_DATA")
    args = parser.parse_args()
    for name in args.marks:
        {"mark": mark, "attack": attack}[args.part](name, args)


if __name__ == "__main__":
    main()
