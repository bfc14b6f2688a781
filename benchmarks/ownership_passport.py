"""Passports on real data: what they cost, what both branches are worth, and what survives a thief.

    python benchmarks/ownership_passport.py run [--beds mnist …] [--seeds 0 1 2]

Works through the cells that have no result yet, one JSON each under results/ownership/. What a step and a
forward pass cost is measured by ``python -m benchmarks.speed --only passport``. The data is looked for in
FREEHOLD_DATA or ../shared/data beside the checkout.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

import freehold as fh
from freehold.attacks.base import Attack
from freehold.attacks.fine_tune import FineTune
from freehold.attacks.permute import Permute
from freehold.attacks.prune import Prune
from freehold.keys import Key
from freehold.metrics.accuracy import share_correct
from freehold.models.checkpoint import load_weights
from freehold.models.norm_pairs import NormPair
from freehold.ownership.base import verify
from freehold.ownership.passport_marks import draw_marks, read_bits
from freehold.ownership.suspect import suspect
from freehold.training import Run, Trainer
from freehold.training.classifier import Supervised, train_classifier

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("FREEHOLD_DATA", HERE.parents[1] / "shared" / "data"))
RESULTS, CACHE = HERE / "results" / "ownership", HERE / ".cache"
IMAGENET = fh.InputSpec(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
FINE_TUNING = 20.0  # epochs


def mnist(seed: int) -> tuple[nn.Module, fh.Domains, fh.Passport]:
    domain = fh.load_domain(f"npz:{DATA / 'mnist.npz'}", classes=10, limit=10_000)
    return trained("mnist-10000", domain, seed, Supervised(steps=1000)), fh.Domains(domain, []), fh.Passport()


def cifar10(seed: int) -> tuple[nn.Module, fh.Domains, fh.Passport]:
    domain = fh.load_domain(f"npz:{DATA / 'cifar10.npz'}", classes=10)
    settings = Supervised(steps=2000, flip=True)
    return trained("cifar10", domain, seed, settings), fh.Domains(domain, []), fh.Passport(flip=True)


def trained(name: str, domain: fh.Domain, seed: int, settings: Supervised) -> nn.Module:
    """A convnet of the domain, kept for the next time."""
    model = fh.load_model("convnet", 10, seed=seed)
    path = CACHE / f"{name}-convnet-{seed}.safetensors"
    if path.exists():
        model.load_state_dict(load_weights(path))
        return model
    train_classifier(model, domain, fh.InputSpec(), settings, Trainer(run_of(seed)))
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    return model


def cifar10_resnet20(seed: int) -> tuple[nn.Module, fh.Domains, fh.Passport]:
    domain = fh.load_domain(f"npz:{DATA / 'cifar10.npz'}", classes=10)
    model = fh.load_model("resnet20", 10, DATA / "weights" / "cifar10_resnet20.safetensors")
    return model, fh.Domains(domain, [], IMAGENET), fh.Passport(flip=True)


def pointnet(seed: int) -> tuple[nn.Module, fh.Domains, fh.Passport]:
    domain = fh.load_domain(f"points:{DATA / 'modelnet_chair_monitor.npz'}", seed=seed)
    model = fh.load_model("pointnet", 2, seed=seed)
    settings = Supervised(steps=120, batch_size=32, shift=0, lr=1e-3)
    train_classifier(model, domain, fh.InputSpec(), settings, Trainer(run_of(seed)))
    return (
        model,
        fh.Domains(domain, []),
        fh.Passport(layers="conv[23],fc*", steps=120, batch_size=32, shift=0),
    )


BEDS: dict[str, Callable[[int], tuple[nn.Module, fh.Domains, fh.Passport]]] = {
    "mnist": mnist,
    "cifar10": cifar10,
    "cifar10-resnet20": cifar10_resnet20,
    "pointnet": pointnet,
}
THEFTS: dict[str, Attack | None] = {
    "": None,
    "pruned by half": Prune(),
    "fine-tuned": FineTune(epochs=FINE_TUNING),
}
HIDDEN = "signs, order and scale"  # what a thief changes on top, at no cost to himself


def run_of(seed: int) -> Run:
    return Run(seed=seed, device="cpu", precision="bf16", progress=False)


def cell(bed: str, seed: int) -> dict[str, Any]:
    model, domains, method = BEDS[bed](seed)
    own, spec = domains.authorized, domains.input
    assert own is not None
    key = Key(seed.to_bytes(32, "big"), "benchmark")
    began = time.monotonic()
    marked = method.protect(model, domains, run=run_of(seed), key=key)
    seconds = time.monotonic() - began
    assert marked.key is not None
    private = method.private(marked.model, marked.key)
    row: dict[str, Any] = {
        "bed": bed,
        "seed": seed,
        "seconds": seconds,
        "fields": method.model_dump(mode="json"),
        "plain": share_correct(model, own.test, spec),
        "deployment": share_correct(marked.model, own.test, spec),
        "private": share_correct(private, own.test, spec),
        **{k: v for k, v in marked.record["figures"].items() if "random" in k},
        "marked": reading(marked.model, marked.key, spec),
        "unmarked": reading(model, marked.key, spec),
        "after": {},
    }
    for name, attack in THEFTS.items():
        if name == "fine-tuned" and (seed or bed == "pointnet"):
            continue  # minutes to hours: measured once a bed
        thief = attack.run(marked.model, own, spec, run=run_of(seed)).last if attack else marked.model
        hidden = Permute().run(thief, own, spec, run=run_of(seed)).last
        for what, net in ((name, thief), (f"{name}, then {HIDDEN}" if name else HIDDEN, hidden)):
            if what:
                accuracy = share_correct(net, own.test, spec)
                row["after"][what] = {"accuracy": accuracy, **reading(net, marked.key, spec)}
                shown = {k: v for k, v in row["after"][what].items() if k != "layers"}
                print(bed, what, json.dumps(shown), flush=True)
    return row


def reading(model: nn.Module, key: Key, spec: fh.InputSpec) -> dict[str, Any]:
    """Our verdict, and beside it the plain reading without alignment."""
    verdict = verify(suspect(model, input=spec), key, commitment=key.commitment)
    marks = draw_marks(key, [NormPair(**pair) for pair in key.facts["layers"]])
    naive = [
        read_bits(model.get_parameter(f"{m.pair.layer}.weight"), m, canonical=False) == m.bits for m in marks
    ]
    signed = [
        read_bits(model.get_parameter(f"{m.pair.layer}.weight"), m, canonical=True) == m.bits for m in marks
    ]
    return {
        "decision": verdict.decision,
        "bits": verdict.matches / verdict.trials,
        "p": verdict.p_adjusted,
        "bits without alignment": float(torch.cat(signed).float().mean()),
        "bits by plain signs": float(torch.cat(naive).float().mean()),
        "layers": verdict.parts,
    }


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["run"])
    parser.add_argument("--beds", nargs="+", default=list(BEDS), choices=list(BEDS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    given = parser.parse_args(None if arguments is None else list(arguments))
    RESULTS.mkdir(parents=True, exist_ok=True)
    CACHE.mkdir(exist_ok=True)
    for seed in given.seeds:
        for bed in given.beds:
            path = RESULTS / f"passport-{bed}-{seed}.json"
            if not path.exists():
                row = cell(bed, seed)
                path.write_text(json.dumps(row, indent=1))
                print(json.dumps({k: v for k, v in row.items() if k not in ("after", "marked", "unmarked")}))


if __name__ == "__main__":
    main()
