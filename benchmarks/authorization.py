"""Quality of the authorization methods on real domain pairs: source drop, target accuracy, ST-D.

    python benchmarks/authorization.py run [--pairs mnist_m:mnist …] [--methods map …] [--seeds 0 1 2]
    python benchmarks/authorization.py cost
    python benchmarks/authorization.py table

``run`` works through the cells that have no result yet, one JSON each under results/authorization/;
``cost`` times every method against a plain training epoch of the same model; ``table`` writes the mean
over seeds and the cost to results/authorization.md and into the README. The data is looked for in
FREEHOLD_DATA or ../shared/data beside the checkout.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import freehold as fh
from freehold.models.checkpoint import load_weights
from freehold.statistics import mean_interval
from freehold.training import Run, Trainer
from freehold.training.classifier import Supervised, train_classifier

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("FREEHOLD_DATA", HERE.parents[1] / "shared" / "data"))
RESULTS, CACHE = HERE / "results" / "authorization", HERE / ".cache"
COST = HERE / "results" / "cost.json"
DIGITS = ("mnist_m:mnist", "synfont:mnist", "mnist:usps", "synfont:mnist_m")
CIFAR = "cifar10:tinyimagenet_cifar7"
# Methods that see no target, and the domains they are measured on without ever having seen them.
UNSEEN = ("mnist_m:mnist+usps+synfont", "synfont:mnist+usps+mnist_m")
METHODS: dict[str, Callable[[str], fh.Protection]] = {
    "map": lambda pair: fh.MAP(consistency=CONSISTENCY.get(pair, 1.0)),
    "map-source-free": lambda pair: fh.MAP(variant="source-free"),
    "ntl": lambda pair: fh.NTL(),
    "ntl-reference": lambda pair: fh.NTL(loss_form="reference"),
    "cuti": lambda pair: fh.CUTI(),
}
TARGET_FREE: dict[str, Callable[[str], fh.Protection]] = {
    "map-data-free": lambda pair: fh.MAP(variant="data-free"),
    "ntl-neighbours": lambda pair: fh.NTL(target="neighbours"),
    "cuti-neighbours": lambda pair: fh.CUTI(target="neighbours"),
}
# The one setting that differs between pairs, chosen on validation images: where source and target are
# near, holding on to the unprotected model's answers on the source holds on to the target as well.
# (Not for the pretrained network: it has seen the validation images, which then hide the source drop.)
CONSISTENCY = {"mnist:usps": 0.0}
# Bars in points of source drop and percent of target accuracy.
BARS = {
    "map": {
        "mnist_m:mnist": (0.5, 13.0),
        "synfont:mnist": (1.0, 14.0),
        "mnist:usps": (1.7, 18.0),
        "synfont:mnist_m": (3.0, 22.0),
        CIFAR: (2.0, 20.0),
    },
    "map-source-free": {
        "mnist_m:mnist": (1.5, 13.0),
        "synfont:mnist": (4.0, 13.0),
        "mnist:usps": (4.0, 25.0),
        "synfont:mnist_m": (10.0, 40.0),
    },
}
# Bars in points of source drop and of mean drop over the unseen domains.
UNSEEN_BARS = {UNSEEN[0]: (4.0, 30.0), UNSEEN[1]: (3.5, 15.0)}
TRAINING = Supervised(steps=700)


def domains(pair: str) -> fh.Domains:
    names = pair.replace(":", "+").split("+")
    source, *targets = (fh.load_domain(f"npz:{DATA / name}.npz", classes=10) for name in names)
    spec = fh.InputSpec()
    if pair == CIFAR:
        spec = fh.InputSpec(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    return fh.Domains(source, targets, spec)


def source_model(pair: str, given: fh.Domains, precision: str) -> torch.nn.Module:
    """The unprotected model: the pretrained ResNet-20 for CIFAR, else the convnet, trained once and kept."""
    if pair == CIFAR:
        return fh.load_model("resnet20", 10, DATA / "weights" / "cifar10_resnet20.safetensors")
    name = pair.split(":")[0]
    path = CACHE / f"{name}.safetensors"
    if not path.exists():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = fh.load_model("convnet", 10)
        trainer = Trainer(Run(seed=0, precision=precision))
        train_classifier(model, given.authorized, given.input, TRAINING, trainer, name=name)
        from safetensors.torch import save_file

        CACHE.mkdir(exist_ok=True)
        save_file({k: v.contiguous() for k, v in model.cpu().state_dict().items()}, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)
    model = fh.load_model("convnet", 10)
    model.load_state_dict(load_weights(path, allow_pickle=False))
    return model


def run_cell(method: str, pair: str, seed: int, precision: str) -> dict[str, Any]:
    given = domains(pair)
    model = source_model(pair, given, precision)
    protection = (METHODS | TARGET_FREE)[method](pair)
    began = time.monotonic()
    protected = protection.protect(model, given, run=Run(seed=seed, precision=precision))
    seconds = time.monotonic() - began
    evaluation = fh.evaluate(model, protected.model, given)
    kept = protected.kept().values()
    histories = protected.record["histories"]
    history = list(histories.values())[-1]
    return {
        "method": method,
        "pair": pair,
        "seed": seed,
        "fields": protected.record["fields"],
        "precision": precision,
        "versions": protected.record["versions"],
        "device": protected.record["device"],
        "images": sum(h["images"] for h in histories.values()),
        "notes": protected.record["notes"],
        "figures": protected.record["figures"],
        "best_step": history["best_step"],
        "validation": history["validation"],
        "seconds": round(seconds, 1),
        "kept": sum(k for k, _ in kept) / max(1, sum(n for _, n in kept)) if kept else None,
        "evaluation": evaluation.to_json(),
    }


def run(args: argparse.Namespace) -> None:
    cells = [
        (method, pair, seed)
        for pair in args.pairs
        for method in args.methods
        if (method in TARGET_FREE) == (pair in UNSEEN)
        for seed in args.seeds
    ]
    index, count = map(int, args.share.split("/"))
    RESULTS.mkdir(parents=True, exist_ok=True)
    for method, pair, seed in cells[index::count]:
        path = RESULTS / f"{method}-{pair.replace(':', '-').replace('+', '-')}-{seed}.json"
        if path.exists():
            continue
        result = run_cell(method, pair, seed, args.precision)
        path.write_text(json.dumps(result, indent=1) + "\n")
        shown = ", ".join(f"{d['name']} {_change(d)}" for d in result["evaluation"]["domains"])
        print(f"{method:15} {pair:28} seed {seed}: {shown}, {result['seconds']:.0f} s", flush=True)


def cost(args: argparse.Namespace) -> None:
    """CPU seconds of each method on each pair, in plain epochs of the same model on the same source.

    A share of the steps is run and the rest extrapolated from two such shares, so that what is done once
    (loading, validation, evaluation of the source), and as often in either, counts once. Processor time,
    since other work on the machine does not count to it.
    """
    found: dict[str, dict[str, float]] = json.loads(COST.read_text()) if COST.exists() else {}
    for pair in args.pairs:
        given = domains(pair)
        model = source_model(pair, given, args.precision)
        settings = Supervised(steps=40)
        batches = len(given.authorized.train) / settings.batch_size

        def train(share: float, model=model, given=given, settings=settings) -> None:
            short = settings.model_copy(update={"steps": round(settings.steps * share)})
            trainer = Trainer(Run(precision=args.precision, progress=False))
            train_classifier(copy.deepcopy(model), given.authorized, given.input, short, trainer)

        epoch = _extrapolated(train, (0.25, 1.0)) * batches / settings.steps
        for method in args.methods:
            if (method in TARGET_FREE) != (pair in UNSEEN):
                continue
            protection = (METHODS | TARGET_FREE)[method](pair)

            def protect(share: float, protection=protection, model=model, given=given) -> None:
                names = [n for n in ("steps", "synthesis_steps") if n in type(protection).model_fields]
                fewer = {n: max(1, round(getattr(protection, n) * share)) for n in names}
                with tempfile.TemporaryDirectory() as folder:
                    os.environ["FREEHOLD_CACHE"] = folder  # synthetic images are part of the cost
                    run = Run(precision=args.precision, progress=False)
                    protection.model_copy(update=fewer).protect(model, given, run=run)

            ratio = _extrapolated(protect, (0.06, 0.16)) / epoch
            found.setdefault(pair, {})[method] = round(ratio, 3)
            print(f"{pair:28} {method:16} {ratio:.2f} epochs of {epoch:.0f} s", flush=True)
            COST.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


def _extrapolated(work: Callable[[float], None], shares: tuple[float, float]) -> float:
    """Seconds of processor time of all of ``work``, from two shares of it."""
    times = []
    for share in shares:
        began = time.process_time()
        work(share)
        times.append(time.process_time() - began)
    return times[1] + (times[1] - times[0]) / (shares[1] - shares[0]) * (1 - shares[1])


def _change(domain: dict[str, Any]) -> str:
    return f"{domain['before']['value']:.2%} -> {domain['after']['value']:.2%}"


def table(args: argparse.Namespace) -> None:
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for path in sorted(RESULTS.glob("*.json")):
        result = json.loads(path.read_text())
        found.setdefault((result["pair"], result["method"]), []).append(result)
    columns = ["pair", "method", "seeds", "source before, %", "source drop, points"]
    columns += ["target before, %", "target after, %", "ST-D", "kept", "epochs"]
    lines = _head(columns)
    for pair in (*DIGITS, CIFAR):
        for method in METHODS:
            lines.append(_row(pair, method, found.get((pair, method), [])))
            if (bar := BARS.get(method, {}).get(pair)) is not None:
                lines.append(f"| | *bar* | | | ≤ {bar[0]:g} | | ≤ {bar[1]:g} | | | |")
    text = "\n".join(lines) + "\n"
    columns = ["source", "method", "seeds", "source drop, points", "never seen: before → after, %"]
    columns += ["mean drop there, points", "epochs"]
    lines = _head(columns)
    for pair in UNSEEN:
        for method in TARGET_FREE:
            lines.append(_unseen_row(pair, method, found.get((pair, method), [])))
        bar = UNSEEN_BARS[pair]
        lines.append(f"| | *bar for map-data-free* | | ≤ {bar[0]:g} | | ≥ {bar[1]:g} | |")
    unseen = "\n".join(lines) + "\n"
    runs = [
        r
        for (_, method), cells in found.items()
        for r in cells
        if "disagreement under noise" in r.get("figures", {})
    ]
    (HERE / "results" / "authorization.md").write_text(f"{text}\n{unseen}\n{_foretold(runs)}")
    write_section("authorization", text)
    write_section("unseen", unseen)
    print(f"{text}\n{unseen}")


def _foretold(runs: list[dict[str, Any]]) -> str:
    """What disagreement on noisy synthetic images says of the source drop, and how wrong it is.

    Each pair's drops are foretold by a straight line through the runs of all other pairs, and by their
    mean.
    """
    lines = _head(["pair", "method", "seed", "disagreement under noise, %", "source drop, points"])
    points = []
    for run in sorted(runs, key=lambda r: (r["pair"], r["method"], r["seed"])):
        share = run["figures"]["disagreement under noise"]
        drop = 100 * run["evaluation"]["domains"][0]["drop"]
        points.append((run["pair"], share, drop))
        lines.append(f"| {run['pair']} | {run['method']} | {run['seed']} | {100 * share:.0f} | {drop:.2f} |")
    by_line, by_mean = [], []
    for pair, share, drop in points:
        others = [(x, y) for name, x, y in points if name != pair]
        if len({x for x, _ in others}) > 1:
            slope, start = statistics.linear_regression(*zip(*others, strict=True))
            by_line.append(abs(start + slope * share - drop))
            by_mean.append(abs(statistics.fmean(y for _, y in others) - drop))
    if by_line:
        line, mean = statistics.fmean(by_line), statistics.fmean(by_mean)
        lines += [
            "",
            f"Mean error on the pair left out: {line:.1f} points by a line, {mean:.1f} by the mean.",
        ]
    return "\n".join(lines) + "\n"


def write_section(name: str, text: str) -> None:
    """Put ``text`` between the README's marks of that name."""
    readme = HERE.parent / "README.md"
    before, rest = readme.read_text().split(f"<!-- {name}:begin -->\n")
    after = rest.split(f"<!-- {name}:end -->")[1]
    readme.write_text(f"{before}<!-- {name}:begin -->\n{text}<!-- {name}:end -->{after}")


def _head(columns: list[str]) -> list[str]:
    return ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]


def _unseen_row(pair: str, method: str, results: list[dict[str, Any]]) -> str:
    if not results:
        return f"| {pair.split(':')[0]} | {method} | missing | | | | |"
    by_domain = list(zip(*(r["evaluation"]["domains"] for r in results), strict=True))
    shown = "; ".join(
        f"{d[0]['name']} {100 * d[0]['before']['value']:.1f} → "
        f"{100 * mean_interval([r['after']['value'] for r in d])[0]:.1f}"
        for d in by_domain[1:]
    )
    cells = [pair.split(":")[0], method, str(len(results)), _spread([100 * r["drop"] for r in by_domain[0]])]
    cells += [shown, _spread([100 * r["evaluation"]["target_drop"] for r in results])]
    cells += [_epochs(pair, method)]
    return "| " + " | ".join(cells) + " |"


def _row(pair: str, method: str, results: list[dict[str, Any]]) -> str:
    if not results:
        return f"| {pair.replace(':', ' → ')} | {method} | missing | | | | | | | |"
    sources, targets = zip(*(r["evaluation"]["domains"] for r in results), strict=True)
    drops = [100 * s["drop"] for s in sources]
    after = [100 * t["after"]["value"] for t in targets]
    ratio = mean_interval([float(r["evaluation"]["st_d"]["value"]) for r in results])[0]
    kept = results[0]["kept"] and f"{mean_interval([r['kept'] for r in results])[0]:.3f}"
    cells = [pair.replace(":", " → "), method, str(len(results))]
    cells += [f"{100 * sources[0]['before']['value']:.1f}", _spread(drops)]
    cells += [f"{100 * targets[0]['before']['value']:.1f}", _spread(after), f"{ratio:.4f}", kept or "–"]
    cells += [_epochs(pair, method)]
    return "| " + " | ".join(cells) + " |"


def _epochs(pair: str, method: str) -> str:
    costs = json.loads(COST.read_text()) if COST.exists() else {}
    return f"{costs[pair][method]:.1f}" if method in costs.get(pair, {}) else "–"


def _spread(values: list[float]) -> str:
    mean = mean_interval(values)[0]
    return f"{mean:.2f}" if len(values) == 1 else f"{mean:.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    everything = [*METHODS, *TARGET_FREE]
    runner = commands.add_parser("run")
    runner.set_defaults(function=run)
    runner.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    runner.add_argument(
        "--share", default="0/1", help="i/n: every n-th cell from the i-th, for several processes"
    )
    timer = commands.add_parser("cost")
    timer.set_defaults(function=cost)
    for command in (runner, timer):
        command.add_argument("--pairs", nargs="*", default=[*DIGITS, CIFAR, *UNSEEN])
        command.add_argument("--methods", nargs="*", default=everything, choices=everything)
        command.add_argument("--precision", default="bf16")
    commands.add_parser("table").set_defaults(function=table)
    if not DATA.is_dir():
        sys.exit(f"no data at {DATA}: set FREEHOLD_DATA")
    args = parser.parse_args()
    args.function(args)


if __name__ == "__main__":
    main()
