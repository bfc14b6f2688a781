"""Speed against floors, measured in one run and interleaved, so that a machine's mood cancels out.

    python benchmarks/speed.py [--quick]

Prints each ratio beside its bar and writes results/speed.json; exits with 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import queue
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import freehold as fh
from freehold.data import Augment
from freehold.training import Loop, Trainer
from freehold.training.classifier import cross_entropy
from freehold.training.loop import Fit
from freehold.training.losses import mmd
from freehold.training.threads import choose_threads, usable_cores

RESULTS = Path(__file__).parent / "results" / "speed.json"
IMAGES = 96  # a step, over both domains


class Stepper(threading.Thread):
    """Runs a method's real ``protect`` up to its first step, then one step a time when told."""

    def __init__(self, work: Callable[[Trainer], Any], run: fh.Run) -> None:
        super().__init__(daemon=True)
        self.work, self.asked, self.answered = work, queue.Queue[bool](), queue.Queue[float]()
        self.trainer = Trainer(run)
        self.trainer.fit = self._serve  # type: ignore[method-assign]

    def _serve(self, model: Any, objective: Any, streams: Any, loop: Any, **options: Any) -> Any:
        fit = Fit(
            self.trainer,
            model,
            objective,
            streams,
            loop,
            options["name"],
            options.get("mode", "train"),
            None,
            options.get("build"),
        )
        fit.set_mode()
        while self.asked.get():
            began = time.perf_counter()
            fit.advance()
            self.answered.put(time.perf_counter() - began)
        raise SystemExit

    def run(self) -> None:
        self.work(self.trainer)

    def step(self) -> float:
        self.asked.put(True)
        return self.answered.get(timeout=120)


def digits() -> fh.Domains:
    return fh.Domains(fh.load_domain("digits-m"), [fh.load_domain("digits")])


def steps(pairs: int) -> dict[str, Any]:
    """One step of each method over one plain training step on as many images."""
    given, run = digits(), fh.Run(precision="bf16", device="cpu", progress=False)
    model = fh.load_model("convnet", 10)
    source = given.authorized

    def plain(trainer: Trainer) -> None:
        streams = {"train": trainer.batches(source.train, given.input, IMAGES, "train")}
        trainer.fit(
            model_copy(), cross_entropy, streams, Loop(steps=10**6, lr=1e-4, optimizer="adam"), name="plain"
        )

    def model_copy() -> torch.nn.Module:
        fresh = fh.load_model("convnet", 10)
        fresh.load_state_dict(model.state_dict())
        return fresh

    half = IMAGES // 2
    # CUTI's cost differs between even and odd steps, so pairs of steps are timed.
    works = {
        "plain": plain,
        "map": lambda t: fh.MAP(batch_size=half)._protect(model_copy(), given, t),
        "ntl": lambda t: fh.NTL(batch_size=half)._protect(model_copy(), given, t),
        "cuti": lambda t: fh.CUTI(batch_size=half)._protect(model_copy(), given, t),
    }
    steppers = {name: Stepper(work, run) for name, work in works.items()}
    for stepper in steppers.values():
        stepper.start()
        stepper.step()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(pairs):
        for name, stepper in steppers.items():
            times[name].append(stepper.step() + stepper.step())
    base = times.pop("plain")
    bars = {"map": 1.05, "ntl": 1.15, "cuti": 1.15}
    return {
        f"{name} step / plain step": _bar(
            statistics.median(t / p for t, p in zip(series, base, strict=True)), bars[name]
        )
        for name, series in times.items()
    } | {"plain images a second": {"value": round(2 * IMAGES / statistics.median(base))}}


def expanded_mmd(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    stacked = torch.cat([source, target])
    n, batch = len(stacked), len(source)
    distance = (stacked[None] - stacked[:, None]).square().sum(2)
    bandwidth = distance.detach().sum() / (n * n - n) / 4
    kernel = sum(torch.exp(-distance / (bandwidth * 2**i)) for i in range(5))
    return (
        kernel[:batch, :batch] + kernel[batch:, batch:] - kernel[:batch, batch:] - kernel[batch:, :batch]
    ).mean()


def mmd_against_expansion(pairs: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    source, target = (
        torch.randn(2, 32, 16_384, generator=generator) + torch.tensor([0.0, 0.1])[:, None, None]
    ).unbind()
    source.requires_grad_()

    def timed(function: Callable[..., torch.Tensor]) -> tuple[float, torch.Tensor, torch.Tensor]:
        began = time.perf_counter()
        value = function(source, target)
        (gradient,) = torch.autograd.grad(value, source)
        return time.perf_counter() - began, value, gradient

    ratios = []
    for _ in range(pairs):
        (slow, expected, reference), (fast, value, gradient) = timed(expanded_mmd), timed(mmd)
        ratios.append(slow / fast)
    memory = {name: _peak_of(name) for name in ("nothing", "mmd", "expanded_mmd")}  # KiB
    return {
        "mmd speed-up over expansion": _bar(statistics.median(ratios), 30, at_least=True),
        "mmd memory / expansion": _bar(
            (memory["mmd"] - memory["nothing"]) / (memory["expanded_mmd"] - memory["nothing"]), 0.25
        ),
        "mmd value, relative error": _bar(abs(value.item() / expected.item() - 1), 1e-5),
        "mmd gradient, relative error": _bar(float((gradient - reference).norm() / reference.norm()), 1e-5),
    }


def _peak_of(name: str) -> int:
    done = subprocess.run(
        [sys.executable, __file__, "--peak", name], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def print_peak(name: str) -> None:
    source, target = torch.randn(2, 32, 16_384).unbind()
    source.requires_grad_()
    if name != "nothing":
        torch.autograd.grad({"mmd": mmd, "expanded_mmd": expanded_mmd}[name](source, target), source)
    # VmHWM belongs to this program alone; getrusage's peak is inherited from the parent process.
    status = Path("/proc/self/status").read_text()
    print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def plain_fit(images: int, augment: Augment | None = None) -> Fit:
    """Ordinary training of the convnet, to be driven step by step."""
    given, trainer = digits(), Trainer(fh.Run(precision="bf16", device="cpu", progress=False))
    stream = trainer.batches(given.authorized.train, given.input, images, "train", augment=augment)
    loop = Loop(steps=10**6, lr=1e-4)
    fit = Fit(
        trainer, fh.load_model("convnet", 10), cross_entropy, {"train": stream}, loop, "p", "train", None
    )
    fit.set_mode()
    return fit


def data_path(pairs: int) -> dict[str, Any]:
    """Making a batch over a whole plain step, which contains it."""
    fit = plain_fit(IMAGES, Augment(shift=2))
    stream = fit.streams["train"]
    shares = []
    for step in range(pairs):
        began = time.perf_counter()
        stream.batch(step)
        middle = time.perf_counter()
        fit.advance()
        shares.append((middle - began) / (time.perf_counter() - middle))
    return {"data path / step": _bar(statistics.median(shares), 0.05)}


def shipped(pairs: int) -> dict[str, Any]:
    """The protected model against the original: time, parameters, and outputs against the masked model."""
    given = digits()
    model = fh.load_model("convnet", 10).eval()
    protected = fh.MAP(steps=3, batch_size=8).protect(model, given, run=fh.Run(device="cpu", progress=False))
    from freehold.models.layers import attach_masks

    masked = fh.load_model("convnet", 10).eval()
    masked.load_state_dict(model.state_dict())
    scores = attach_masks(masked, list(protected.mask or {}))
    for name, score in scores.items():
        score.data = torch.where((protected.mask or {})[name], 0.01, 0.0)
    images = torch.randn(32, 3, 32, 32)
    ratios = []
    with torch.inference_mode():
        for _ in range(pairs):
            times = []
            for candidate in (protected.model, model):
                began = time.perf_counter()
                candidate(images)
                times.append(time.perf_counter() - began)
            ratios.append(times[0] / times[1])
        difference = float((protected.model(images) - masked(images)).abs().max())
    count = [sum(p.numel() for p in m.parameters()) for m in (protected.model, model)]
    return {
        "shipped / original inference time": _bar(statistics.median(ratios), 1.02),
        "shipped / original parameters": _bar(count[0] / count[1], 1.0),
        "shipped - masked outputs, largest": _bar(difference, 1e-6),
    }


def threads() -> dict[str, Any]:
    """Throughput at the chosen count over the best of all counts, and the time the choice took."""
    fit = plain_fit(64)
    before = torch.get_num_threads()
    batch = fit.streams["train"].batch(0)

    def step(images: int) -> None:
        cross_entropy(fit.forward, {"train": batch.first(images)}, 0)["loss"].backward()

    began = time.perf_counter()
    chosen = choose_threads(step, 64)
    seconds = time.perf_counter() - began
    speeds = {}
    for count in range(1, usable_cores() + 1):
        torch.set_num_threads(count)
        fit.advance()
        times = []
        for _ in range(3):
            began = time.perf_counter()
            fit.advance()
            times.append(time.perf_counter() - began)
        speeds[count] = 64 / min(times)
    torch.set_num_threads(before)
    return {
        "chosen / best throughput": _bar(speeds[chosen] / max(speeds.values()), 0.9, at_least=True),
        "seconds to choose threads": _bar(seconds, 5.0),
        "chosen threads": {"value": chosen},
        "images a second by threads": {"value": {str(k): round(v) for k, v in speeds.items()}},
    }


def start_up(runs: int) -> dict[str, Any]:
    """Seconds that the import and the help take beyond starting Python, and no torch in either."""

    def seconds(*command: str) -> float:
        times = []
        for _ in range(runs):
            began = time.perf_counter()
            subprocess.run([sys.executable, *command], capture_output=True, check=True)
            times.append(time.perf_counter() - began)
        return statistics.median(times)

    bare = seconds("-c", "pass")
    return {
        "import freehold, seconds": _bar(seconds("-c", "import freehold") - bare, 0.3),
        "freehold --help, seconds in all": _bar(seconds("-m", "freehold", "--help"), 0.5),
    }


def _bar(value: float, bar: float, *, at_least: bool = False) -> dict[str, Any]:
    rounded = float(f"{value:.4g}")
    return {
        "value": rounded,
        "bar": bar,
        "at_least": at_least,
        "holds": value >= bar if at_least else value <= bar,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer repeats, nothing written")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        print_peak(args.peak)
        return
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    pairs = 5 if args.quick else 25
    parts = [
        lambda: start_up(3 if args.quick else 9),
        lambda: mmd_against_expansion(3 if args.quick else 7),
        lambda: shipped(4 * pairs),
        lambda: data_path(pairs),
        lambda: steps(pairs),
        threads,
    ]
    figures: dict[str, Any] = {}
    for part in parts:
        new = part()
        figures |= new
        for name, figure in new.items():
            bar = f"{'>=' if figure['at_least'] else '<='} {figure['bar']:g}" if "bar" in figure else ""
            verdict = {True: "holds", False: "MISSED"}.get(figure.get("holds"), "")
            print(f"{name:38} {figure['value']!s:>12}  {bar:9} {verdict}", flush=True)
    machine = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "cores": usable_cores(),
    }
    if not args.quick:
        RESULTS.write_text(json.dumps({"machine": machine, "figures": figures}, indent=1) + "\n")
    sys.exit(any(figure.get("holds") is False for figure in figures.values()))


if __name__ == "__main__":
    main()
