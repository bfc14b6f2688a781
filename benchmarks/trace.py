"""Fifty customers, one copy each: whose was fine-tuned and passed on?

    python benchmarks/trace.py [--method ptynet|trigger-set] [--customers 50] [--innocent 200]

One convnet on the embedded digits at 16 pixels is marked once for each customer, from the same trained
model. Each copy is then fine-tuned by a thief who has the owner's own training images (five epochs of SGD
with momentum, all layers), and traced among all customers. Suspects that come from no copy are traced too:
networks trained alone, fine-tunings of the unmarked model, copies of another owner's customers, and mixtures
of two copies, whose customers may be named but no third. Goes on where it stopped; writes
results/evidence/trace-METHOD.json and exits with 1 if a copy is not traced or anybody is named wrongly.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

import freehold as fh
from freehold.attacks.fine_tune import FineTune
from freehold.evidence.trace import trace
from freehold.keys import Key
from freehold.metrics.accuracy import share_correct
from freehold.models.checkpoint import load_checkpoint, save_checkpoint
from freehold.models.zoo import ModelSpec
from freehold.ownership.base import OwnershipMethod
from freehold.ownership.ptynet import PTYNet
from freehold.ownership.suspect import suspect
from freehold.ownership.trigger_set import TriggerSet
from freehold.statistics import clopper_pearson
from freehold.training import Run, Trainer
from freehold.training.classifier import Supervised, train_classifier

HERE = Path(__file__).resolve().parent
RESULTS, CACHE = HERE / "results" / "evidence", HERE / ".cache"
SPEC, BARE = fh.InputSpec(size=16), ModelSpec(uri="convnet", num_classes=10)
METHODS: dict[str, OwnershipMethod] = {
    "ptynet": PTYNet(families=30, steps=150, lr=6e-3),
    "trigger-set": TriggerSet(steps=200, lr=1e-3, weight=1.0, moved_weight=1.0),
}
THIEF = {"lr 0.01": FineTune(epochs=5), "lr 0.05": FineTune(epochs=5, lr=0.05)}
STEPS, ALONE = 150, 60  # of training the source, and an innocent network


def run(seed: int) -> Run:
    return Run(seed=seed, device="cpu", progress=False)


class Bench:
    """The copies of one method, kept under .cache, and what was found so far."""

    def __init__(self, name: str, customers: int) -> None:
        self.method, self.place = METHODS[name], CACHE / f"trace-{name}"
        self.names = [f"customer {number:02}" for number in range(customers)]
        self.masters = [Key(bytes([number]) * 32, f"owner {number}") for number in range(2)]
        self.digits = fh.load_domain("digits")
        self.domains = fh.Domains(self.digits, [], SPEC)
        self.recipe = fh.Recipe(model=BARE, input=SPEC, classes=self.digits.classes)
        self.file = RESULTS / f"trace-{name}.json"
        self.found: dict[str, Any] = json.loads(self.file.read_text()) if self.file.exists() else {}
        self.source = self.trained(0, STEPS)

    def part(self, name: str) -> dict[str, Any]:
        return self.found.setdefault(name, {})  # type: ignore[no-any-return]

    def write(self) -> None:
        RESULTS.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(self.found, indent=1) + "\n")

    def trained(self, seed: int, steps: int) -> nn.Module:
        if seed == 0 and (self.place / "source").exists():
            return load_checkpoint(self.place / "source")[0].eval()
        model = BARE.build(seed=seed)
        train_classifier(model, self.digits, SPEC, Supervised(steps=steps), Trainer(run(seed)))
        if seed == 0:
            save_checkpoint(self.place / "source", model, self.recipe)
        return model

    def accuracy(self, model: nn.Module) -> float:
        return round(share_correct(model, self.digits.test, SPEC), 4)

    def key(self, name: str) -> Key:
        facts = {"customer": name, "input": SPEC.model_dump(mode="json"), "num_classes": 10}
        own = self.masters[0].for_customer(name)
        return own.bound(self.method.name, self.method.model_dump(mode="json"), facts)

    def copy_of(self, name: str, owner: int = 0) -> tuple[nn.Module, float]:
        """The customer's copy and the processor seconds that marking it took."""
        place = self.place / f"{owner}-{name}"
        if not (place / "seconds").exists():
            began = time.process_time()
            protected = self.method.protect(
                self.source, self.domains, run=run(0), key=self.masters[owner].for_customer(name)
            )
            seconds = time.process_time() - began
            protected.save(place, self.recipe)
            (place / "seconds").write_text(str(seconds))
        return load_checkpoint(place)[0].eval(), float((place / "seconds").read_text())

    def stolen(self, model: nn.Module, how: str, seed: int) -> nn.Module:
        return THIEF[how].run(model, self.digits, SPEC, run=run(1000 + seed)).last

    def traced(self, model: nn.Module) -> dict[str, Any]:
        keys = {name: self.key(name) for name in self.names}
        began = time.process_time()
        found = trace(suspect(model, input=SPEC), keys, commitments=[key.commitment for key in keys.values()])
        best, second = found.copies[:2]
        return {
            "decision": found.decision.value,
            "customer": found.customer,
            "matches": [best.verdict.matches, second.verdict.matches],
            "trials": best.verdict.trials,
            "p_adjusted": best.verdict.p_adjusted,
            "queries": found.queries,
            "accuracy": self.accuracy(model),
            "trace seconds": round(time.process_time() - began, 2),
        }


def leaked(bench: Bench, how: str, count: int) -> None:
    """Each customer's copy, fine-tuned."""
    for number, name in enumerate(bench.names[:count]):
        if name in bench.part(f"leaked, {how}"):
            continue
        model, seconds = bench.copy_of(name)
        accuracy = bench.accuracy(model)
        result = bench.traced(bench.stolen(model, how, number))
        bench.part(f"leaked, {how}")[name] = {
            "marking seconds": round(seconds, 1),
            "marked accuracy": accuracy,
            **result,
        }
        bench.write()


def innocent(bench: Bench, count: int) -> None:
    """Half trained alone, a quarter from the unmarked model, a quarter another owner's copies."""
    part = bench.part("innocent")
    for number in range(count):
        kind = ("alone", "from the source", "alone", "another owner's")[number % 4]
        if (name := f"{number}, {kind}") in part:
            continue
        if kind == "alone":
            model = bench.trained(1 + number, ALONE)
        elif kind == "from the source":
            model = bench.stolen(bench.source, "lr 0.01", number)
        else:
            model = bench.copy_of(f"customer {number:02}", owner=1)[0]
        part[name] = bench.traced(model)
        bench.write()


def mixtures(bench: Bench, count: int) -> None:
    """The mean of the weights of two copies; of a branch as well."""
    part = bench.part("mixtures")
    for first, second in zip(bench.names[:count], bench.names[1 : count + 1], strict=True):
        if f"{first}, {second}" in part:
            continue
        (one, _), (two, _) = bench.copy_of(first), bench.copy_of(second)
        mixed, other = copy.deepcopy(one), two.state_dict()
        with torch.no_grad():
            for key, value in mixed.state_dict().items():
                value.copy_((value.float() + other[key].float()) / 2)
        part[f"{first}, {second}"] = bench.traced(mixed)
        bench.write()


def summary(bench: Bench) -> dict[str, Any]:
    result: dict[str, Any] = {"method": bench.method.name, "fields": bench.method.model_dump(mode="json")}
    for how in THIEF:
        if not (part := bench.part(f"leaked, {how}")):
            continue
        named = sum(found["customer"] == name for name, found in part.items())
        wrong = [name for name, found in part.items() if found["customer"] not in ("", name)]
        result[f"leaked, {how}"] = {"copies": len(part), "named rightly": named, "named wrongly": wrong}
        seconds = sorted(found["marking seconds"] for found in part.values())
        result["marking seconds, median and most"] = [seconds[len(seconds) // 2], seconds[-1]]
        drops = [found["marked accuracy"] for found in part.values()]
        result["marked accuracy, least"] = min(drops)
    part = bench.part("innocent")
    accused = [name for name, found in part.items() if found["customer"]]
    low, high = clopper_pearson(len(accused), len(part)) if part else (0.0, 1.0)
    result["innocent"] = {"trials": len(part), "accused": accused, "95 % interval": [low, high]}
    wrong = [
        pair
        for pair, found in bench.part("mixtures").items()
        if found["customer"] not in ("", *pair.split(", "))
    ]
    result["mixtures"] = {"trials": len(bench.part("mixtures")), "a third named": wrong}
    result["source accuracy"] = bench.accuracy(bench.source)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--method", default="ptynet", choices=METHODS)
    parser.add_argument("--customers", type=int, default=50)
    parser.add_argument("--innocent", type=int, default=200)
    parser.add_argument("--strong", type=int, default=10, help="copies that a stronger thief has too")
    parser.add_argument("--mixtures", type=int, default=10)
    args = parser.parse_args()
    bench = Bench(args.method, args.customers)
    leaked(bench, "lr 0.01", args.customers)
    leaked(bench, "lr 0.05", args.strong)
    mixtures(bench, args.mixtures)
    innocent(bench, args.innocent)
    result = bench.found["summary"] = summary(bench)
    bench.write()
    print(json.dumps(result, indent=1))
    leaks = [result[f"leaked, {how}"] for how in THIEF if f"leaked, {how}" in result]
    missed = leaks[0]["copies"] - leaks[0]["named rightly"]
    wrong = any(leak["named wrongly"] for leak in leaks) or result["mixtures"]["a third named"]
    sys.exit(int(missed > 0 or bool(wrong) or bool(result["innocent"]["accused"])))


if __name__ == "__main__":
    main()
