"""What a released model is worth to somebody who fine-tunes it: SLC-AUC of NTP and its controls.

    python benchmarks/fine_tuning.py run [--pairs mnist:usps …] [--variants …] [--budgets …]
    python benchmarks/fine_tuning.py table

``run`` protects a model once a variant and pair, attacks it, and keeps one JSON a cell under
results/fine_tuning/; ``table`` writes results/fine_tuning.md and the README's section. The defender has
2,000 labelled target images, the attacker the rest of the training images; both are judged on 1,000
test images. The data is looked for in FREEHOLD_DATA or ../shared/data beside the checkout.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import torch
from authorization import CACHE, DATA, HERE, source_model, write_section
from safetensors.torch import save_file
from torch import nn

import freehold as fh
from freehold.attacks.attacker import ATTACKERS, Attacker, released, scratch
from freehold.attacks.learning_curve import BUDGETS, Grid, learning_curve
from freehold.data.carve import stratified_order
from freehold.metrics.learning_curve import LearningCurve, slc_auc
from freehold.models.checkpoint import load_weights
from freehold.models.zoo import ModelSpec
from freehold.seeds import generator
from freehold.training import Run

RESULTS = HERE / "results" / "fine_tuning"
SPEC = fh.InputSpec()
DEFENDER, JUDGES = 2000, 1000
PLAIN = {"alpha": 0.0, "fisher": 0.0, "rivalry": 0.0}
VARIANTS: dict[str, fh.NTP | None] = {
    "unprotected": None,
    "plain pruning, weights": fh.NTP(granularity="weight", **PLAIN),
    "ntp, weights": fh.NTP(granularity="weight"),
    "plain pruning, channels": fh.NTP(**PLAIN),
    "ntp, channels": fh.NTP(),
    "ntp, channels, locked": fh.NTP(lock=True),
    "ntp, reference": fh.NTP(mode="reference"),
}
NEAR = ("mnist:usps", "usps:mnist")  # the pairs of the equal-budget bars
# For the published attacker: pairs on which an unprotected model is worth having.
PAIRS = (*NEAR, "mnist_m:mnist", "mnist_m:usps")
SIZES = (10, 20, 50, 100, 200, 500, 1000)
GRIDS = {
    "equal": Grid(sizes=SIZES, seeds=2),
    "swept": Grid(sizes=(10, 50, 200, 1000), seeds=2),
    "patient": Grid(sizes=(10, 50, 200, 1000), seeds=2),
    "published": Grid(sizes=SIZES, seeds=1),
}
EVERYBODY = tuple(ATTACKERS)
# Which attackers meet which model under which budget, in order of importance.
PLAN: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("ntp, channels", "equal", EVERYBODY),
    ("plain pruning, channels", "equal", ("regrow",)),
    ("unprotected", "equal", ("regrow",)),
    ("ntp, weights", "equal", ("zeros kept", "regrow", "norms reset")),
    ("plain pruning, weights", "equal", ("zeros kept", "regrow")),
    ("ntp, channels", "published", ("published",)),
    ("unprotected", "published", ("published",)),
    ("ntp, channels, locked", "equal", ("regrow", "norms reset", "rescaled")),
    ("ntp, channels", "swept", ("regrow",)),
    ("ntp, channels", "patient", ("regrow",)),
    ("ntp, reference", "equal", ("zeros kept", "regrow")),
)
PUBLISHED = Attacker(zeros="kept", head="kept")
WHO = {**ATTACKERS, "published": PUBLISHED}


def domains(pair: str) -> tuple[fh.Domains, fh.Domain]:
    """What the defender has, and what the attacker has of the target."""
    source, target = (fh.load_domain(f"npz:{DATA / name}.npz", classes=10) for name in pair.split(":"))
    order = stratified_order(target.train.labels, generator(0, "defender"))
    judges = target.test.take(stratified_order(target.test.labels, generator(0, "judges"))[:JUDGES])
    mine = target.with_splits(
        {"train": target.train.take(order[:DEFENDER]), "val": target.val, "test": judges}
    )
    theirs = target.with_splits(
        {"train": target.train.take(order[DEFENDER:]), "val": target.val, "test": judges}
    )
    return fh.Domains(source, [mine], SPEC), theirs


def protected_model(pair: str, variant: str, seed: int, precision: str) -> tuple[nn.Module, dict[str, Any]]:
    """The model of a variant and what is known about it; made once, kept beside the source models."""
    name = _file(f"{pair}-{variant}-{seed}")
    weights, facts = CACHE / f"{name}.safetensors", RESULTS / f"model-{name}.json"
    given, _ = domains(pair)
    model = source_model(pair, given, precision)
    if facts.exists() and weights.exists():
        model.load_state_dict(load_weights(weights))
        return model, json.loads(facts.read_text())
    method, began = VARIANTS[variant], time.monotonic()
    shipped, record = model, {}
    if method is not None:
        done = method.protect(model, given, run=Run(seed=seed, precision=precision))
        shipped, record = done.model, done.record
    seconds = time.monotonic() - began
    evaluation = fh.evaluate(model, shipped, given, precision=precision)
    trunk = [w for n, w in shipped.state_dict().items() if w.dim() > 1 and not n.startswith("head")]
    known = {
        "pair": pair,
        "variant": variant,
        "seed": seed,
        "fields": record.get("fields"),
        "versions": record.get("versions"),
        "notes": record.get("notes"),
        "seconds": round(seconds, 1),
        "epoch_seconds": round(_epoch(pair, given, precision), 2),
        "sparsity": float(sum((w == 0).sum() for w in trunk) / sum(w.numel() for w in trunk)),
        "evaluation": evaluation.to_json(),
        "residuals": record.get("histories", {}).get("ntp-admm", {}).get("terms", {}).get("primal residual"),
    }
    save_file({k: v.contiguous() for k, v in shipped.cpu().state_dict().items()}, weights)
    facts.write_text(json.dumps(known, indent=1) + "\n")
    return shipped, known


def _epoch(pair: str, given: fh.Domains, precision: str) -> float:
    """Seconds of one plain pass over the source's training images, from 30 steps of it."""
    from freehold.training import Trainer
    from freehold.training.classifier import Supervised, train_classifier

    model, settings = fh.load_model("convnet", 10), Supervised(steps=30)
    trainer = Trainer(Run(precision=precision, progress=False))
    history = train_classifier(model, given.authorized, SPEC, settings, trainer)
    return history.seconds / 30 * len(given.authorized.train) / settings.batch_size


def curve(pair: str, variant: str, who: str, budget: str, seed: int, precision: str) -> LearningCurve:
    """One learning curve, measured once. Untrained models are the same for all that share a target."""
    of_scratch = variant == "scratch"
    target = pair.split(":")[1]
    name = f"{target}-scratch" if of_scratch else f"{pair}-{variant}-{seed}-{who}"
    path = RESULTS / f"curve-{_file(f'{name}-{budget}')}.json"
    if path.exists():
        return LearningCurve.model_validate(json.loads(path.read_text())["curve"])
    if of_scratch:
        start = scratch(
            lambda s: ModelSpec(uri="convnet", num_classes=10).build(load_weights=False, seed=s), SPEC, 10
        )
    else:
        model, _ = protected_model(pair, variant, seed, precision)
        start = released(model, WHO[who], SPEC, 10)
    # The reference of the published attacker is a network trained well, as in the publication.
    recipe = BUDGETS["equal"] if of_scratch and budget == "published" else BUDGETS[budget]
    recipe = recipe.model_copy(update={"name": budget})
    began, run = time.monotonic(), Run(precision=precision, progress=False)
    found = learning_curve(
        variant if of_scratch else who, start, domains(pair)[1], SPEC, recipe, GRIDS[budget], run
    )
    cell = {"curve": found.model_dump(mode="json"), "seconds": round(time.monotonic() - began, 1)}
    path.write_text(json.dumps(cell, indent=1) + "\n")
    return found


def _file(name: str) -> str:
    return name.replace(":", "-").replace(", ", "-").replace(" ", "-")


def run(args: argparse.Namespace) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    for pair in args.pairs:
        for variant, budget, attackers in PLAN:
            if budget not in args.budgets or variant not in args.variants:
                continue
            _, known = protected_model(pair, variant, args.seed, args.precision)
            source = known["evaluation"]["domains"][0]
            print(
                f"{pair} {variant}: source {source['before']['value']:.2%} -> "
                f"{source['after']['value']:.2%}, sparsity {known['sparsity']:.4f}, {known['seconds']:.0f} s",
                flush=True,
            )
            for who in attackers:
                reference = curve(pair, "scratch", "scratch", budget, 0, args.precision)
                attacked = curve(pair, variant, who, budget, args.seed, args.precision)
                shown = ", ".join(f"{v:.3f}" for v in attacked.mean)
                print(f"  {slc_auc(attacked, reference)}   {shown}", flush=True)


def table(args: argparse.Namespace) -> None:
    columns = ["pair", "model", "epochs", "source drop, points", "sparsity"]
    columns += ["attacker", "budget", "SLC-AUC, nats", "per seed"]
    lines = ["| " + " | ".join(columns) + " |"]
    lines += ["|---" * 9 + "|"]
    for pair in PAIRS:
        for variant in VARIANTS:
            lines += sorted_rows(pair, variant, args.seed)
    text = "\n".join(lines) + "\n"
    (HERE / "results" / "fine_tuning.md").write_text(text)
    write_section("fine_tuning", text)
    print(text)


def sorted_rows(pair: str, variant: str, seed: int) -> list[str]:
    """Rows of one model, budget by budget, the worst for the defender first."""
    name = _file(f"{pair}-{variant}-{seed}")
    facts = RESULTS / f"model-{name}.json"
    if not facts.exists():
        return []
    known, rows = json.loads(facts.read_text()), []
    epochs = known["seconds"] / known["epoch_seconds"]
    for budget in GRIDS:
        found = []
        reference = RESULTS / f"curve-{pair.split(':')[1]}-scratch-{budget}.json"
        for who in WHO:
            path = RESULTS / f"curve-{_file(f'{name}-{who}-{budget}')}.json"
            if path.exists() and reference.exists():
                attacked, base = (
                    LearningCurve.model_validate(json.loads(p.read_text())["curve"])
                    for p in (path, reference)
                )
                found.append(slc_auc(attacked, base))
        for area in sorted(found, key=lambda a: -a.value):
            source = known["evaluation"]["domains"][0]
            seeds = ", ".join(f"{v:+.2f}" for v in area.per_seed)
            rows.append(
                f"| {pair.replace(':', ' → ')} | {variant} | {epochs:.1f} | "
                f"{100 * source['drop']:.2f} | "
                f"{known['sparsity']:.3f} | {area.attacker} | {budget} | {area.value:+.3f} | {seeds} |"
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    runner = commands.add_parser("run")
    runner.set_defaults(function=run)
    runner.add_argument("--pairs", nargs="*", default=list(NEAR))
    runner.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    runner.add_argument("--budgets", nargs="*", default=list(GRIDS), choices=list(GRIDS))
    runner.add_argument("--seed", type=int, default=0)
    runner.add_argument("--precision", default="bf16")
    tables = commands.add_parser("table")
    tables.set_defaults(function=table)
    tables.add_argument("--seed", type=int, default=0)
    if not DATA.is_dir():
        sys.exit(f"no data at {DATA}: set FREEHOLD_DATA")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.function(args)


if __name__ == "__main__":
    main()
