"""Passports on real data: what they cost, what both branches are worth, and what survives a thief.

    python benchmarks/ownership_passport.py run [--beds mnist …] [--seeds 0 1 2]
    python benchmarks/ownership_passport.py speed

``run`` works through the cells that have no result yet, one JSON each under results/ownership/; ``speed``
times the joint step against the plain one, and the private forward pass against the public one. The data
is looked for in FREEHOLD_DATA or ../shared/data beside the checkout.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterable
from functools import partial
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
from freehold.models.norm_pairs import NormPair, norm_pairs
from freehold.models.two_branches import TwoBranches
from freehold.ownership.base import verify
from freehold.ownership.embedding import labelled
from freehold.ownership.passport_affine import HiddenNet, PassportAffine
from freehold.ownership.passport_marks import draw_marks, read_bits
from freehold.ownership.passport_training import joint_objective
from freehold.ownership.suspect import suspect
from freehold.training import Run, Trainer
from freehold.training.classifier import Supervised, cross_entropy, train_classifier

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


def speed(rounds: int = 12) -> dict[str, float]:
    """Interleaved medians of one process: steps on 64 images, forward passes on one."""
    rng = torch.Generator().manual_seed(0)
    spec, found = fh.InputSpec(), {}
    domain = fh.load_domain(f"npz:{DATA / 'mnist.npz'}", classes=10, limit=2000)
    for uri in ("convnet", "resnet20"):
        plain = fh.load_model(uri, 10)
        steps = {"plain": stepper(plain, domain, spec, None)}
        nets = {}
        for layers, last in (("all", 0), ("last three", 3)):
            model = fh.load_model(uri, 10)
            pairs = norm_pairs(model, spec.example())[-last:]
            key = Key(bytes(32), "speed", method="passport")
            nets_of = [HiddenNet.drawn(pair.channels, key, pair.layer) for pair in pairs]
            affine = PassportAffine(draw_marks(key, pairs), nets_of, margin=1.0, canonical=True)
            net = nets[layers] = TwoBranches(model, pairs, affine, spec.example())
            steps[layers] = stepper(net, domain, spec, affine)
        times = interleaved(steps, rounds)
        for layers in ("all", "last three"):
            found[f"{uri}: joint step, {layers}"] = times[layers] / times["plain"]
        net = nets["all"].eval()
        private, image = net.private().eval(), torch.randn(1, 3, 32, 32, generator=rng)
        with torch.inference_mode():
            forwards = {"public": partial(plain.eval(), image), "private": partial(private, image)}
            passes = interleaved(forwards, 200)
        found[f"{uri}: private forward at batch 1"] = passes["private"] / passes["public"]
    return found


def stepper(model: nn.Module, domain: fh.Domain, spec: fh.InputSpec, affine: PassportAffine | None) -> Any:
    """One step of the training loop, ready to be called again and again."""
    from freehold.training import Loop
    from freehold.training.loop import Fit

    trainer = Trainer(Run(device="cpu", precision="bf16", progress=False, threads=1))
    streams = {"train": trainer.batches(domain.train, spec, 64, "train")}
    objective = (
        cross_entropy
        if affine is None or not isinstance(model, TwoBranches)
        else joint_objective(model, affine, labelled, 0.1, "summed", 0)
    )
    fit = Fit(trainer, model, objective, streams, Loop(steps=10**6, lr=1e-4), "speed", "train", None)
    fit.set_mode()
    return fit.advance


def interleaved(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 2):
        for name, call in calls.items():
            began = time.process_time()  # of this process alone: the machine may be shared
            call()
            if number >= 2:
                times[name].append(time.process_time() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["run", "speed"])
    parser.add_argument("--beds", nargs="+", default=list(BEDS), choices=list(BEDS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    given = parser.parse_args(None if arguments is None else list(arguments))
    RESULTS.mkdir(parents=True, exist_ok=True)
    CACHE.mkdir(exist_ok=True)
    if given.what == "speed":
        found = speed()
        (RESULTS / "passport-speed.json").write_text(json.dumps(found, indent=1))
        print(json.dumps(found, indent=1))
        return
    for seed in given.seeds:
        for bed in given.beds:
            path = RESULTS / f"passport-{bed}-{seed}.json"
            if not path.exists():
                row = cell(bed, seed)
                path.write_text(json.dumps(row, indent=1))
                print(json.dumps({k: v for k, v in row.items() if k not in ("after", "marked", "unmarked")}))


if __name__ == "__main__":
    main()
