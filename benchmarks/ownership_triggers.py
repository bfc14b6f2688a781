"""Trigger sets on the pretrained CIFAR ResNet-20: what they cost, and what attacks leave of them.

    python benchmarks/ownership_triggers.py mark [--recipes plain app] [--steps N]
    python benchmarks/ownership_triggers.py attack [--recipes …] [--attacks quick] [--attacks FTLL FTAL …]

``mark`` keeps the marked models under .cache/ and writes their cost to results/ownership/trigger-set.json;
``attack`` adds one attack after the other, and leaves out those that are there. ``quick`` names the attacks
that take seconds to a minute; the published ones take 20 epochs each. The data is looked for in FREEHOLD_DATA
or ../shared/data beside the checkout. Times are processor seconds.
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

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("FREEHOLD_DATA", HERE.parents[1] / "shared" / "data"))
RESULT, CACHE = HERE / "results" / "ownership" / "trigger-set.json", HERE / ".cache"
BARE = ModelSpec(uri="resnet20", num_classes=10)
SPEC = fh.InputSpec(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
RECIPES = ("plain", "app")
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


def loaded() -> tuple[fh.Domain, nn.Module]:
    domain = fh.load_domain(f"npz:{DATA}/cifar10.npz", classes=10)
    return domain, fh.load_model("resnet20", 10, DATA / "weights" / "cifar10_resnet20.safetensors").eval()


def right(model: nn.Module, split: fh.Split) -> torch.Tensor:
    return predict(model, split, SPEC).cpu() == split.labels


def judged(model: nn.Module, key: Key) -> dict[str, Any]:
    found = verify(suspect(model, input=SPEC), key, commitment=key.commitment)
    return found.model_dump(mode="json", include={"decision", "matches", "trials", "p_adjusted"})


def results() -> dict[str, Any]:
    return json.loads(RESULT.read_text()) if RESULT.exists() else {}


def write(found: dict[str, Any]) -> None:
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(found, indent=1) + "\n")


def mark(recipe: str, args: argparse.Namespace) -> None:
    domain, model = loaded()
    began = time.process_time()
    method = TriggerSet(recipe=recipe, **({"steps": args.steps} if args.steps else {}))
    protected = method.protect(
        model,
        fh.Domains(domain, [], SPEC),
        run=Run(seed=0, device="cpu", precision=args.precision, progress=False),
        key=Key(bytes(range(32)), "benchmark"),
    )
    seconds = time.process_time() - began
    place = CACHE / f"triggers-{recipe}"
    protected.save(place, fh.Recipe(model=BARE, input=SPEC, classes=domain.classes))
    facts = {"facts": dict(protected.key.facts), "settings": dict(protected.key.settings)}
    (place / "key.json").write_text(json.dumps(facts))  # its secret is the numbers 0 to 31
    before, after = right(model, domain.test), right(protected.model, domain.test)
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
        "verdict": judged(protected.model, protected.key),
        "verdict on the original": judged(model, protected.key),
        "versions": protected.record["versions"],
        "attacks": {},
    }
    write(results() | {recipe: result})
    print(recipe, json.dumps({k: v for k, v in result.items() if k not in ("fields", "versions")}, indent=1))


def kept(recipe: str) -> tuple[nn.Module, Key]:
    place = CACHE / f"triggers-{recipe}"
    bound = json.loads((place / "key.json").read_text())
    key = Key(bytes(range(32)), "benchmark").bound("trigger-set", bound["settings"], bound["facts"])
    return fh.load_checkpoint(place)[0].eval(), key


def attack(recipe: str, args: argparse.Namespace) -> None:
    domain, _ = loaded()
    model, key = kept(recipe)
    for name in QUICK if args.attacks == ["quick"] else args.attacks:
        if name in results()[recipe]["attacks"]:
            continue
        began = time.process_time()
        run = Run(seed=1, device="cpu", precision=args.precision, progress=False)
        found = ATTACKS[name].run(model, domain, SPEC, run=run)
        last = right(found.last, domain.test).float().mean()
        result = {
            "fields": found.record["fields"],
            "steps": found.record["cost"]["steps"],
            "accuracy before": found.before.value,
            "accuracy": found.after.value,
            **judged(found.model, key),
            "last state": {"accuracy": float(last), **judged(found.last, key)},
            "processor seconds": round(time.process_time() - began, 1),
        }
        now = results()
        now[recipe]["attacks"][name] = result
        write(now)
        shown = {k: v for k, v in result.items() if k not in ("fields", "processor seconds")}
        print(f"{recipe:10} {name:30} {json.dumps(shown)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("mark", "attack"))
    parser.add_argument("--recipes", nargs="*", default=RECIPES, choices=RECIPES)
    parser.add_argument("--attacks", nargs="*", default=list(ATTACKS), choices=["quick", *ATTACKS])
    parser.add_argument("--steps", type=int)
    parser.add_argument("--precision", default="bf16")
    if not DATA.is_dir():
        sys.exit(f"no data at {DATA}: set FREEHOLD_DATA")
    args = parser.parse_args()
    for recipe in args.recipes:
        {"mark": mark, "attack": attack}[args.part](recipe, args)


if __name__ == "__main__":
    main()
