"""What the benchmark itself costs: time outside cells, resuming, listing, and Ray against plain processes.

    python benchmarks/bench_overhead.py run     every cell in this process, nothing cached
    python benchmarks/bench_overhead.py kept    the finished suite resumed, 10,000 results listed
    python benchmarks/bench_overhead.py ray     two plain processes, then Ray; needs two idle cores

``run`` keeps what it found in results/suites/quick. ``ray`` runs the suite as two plain processes that take
half of the cells each, then on Ray with two workers, and compares every result bit for bit with those that
were kept. Each part writes results/bench-PART.json and leaves with 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from freehold.bench import Outcome, Store, load_suite, plan, run_suite
from freehold.bench.ray import OnRay
from freehold.bench.runner import InProcess
from freehold.bench.stages import Place

RESULTS = Path(__file__).resolve().parent / "results"
SUITE = "quick"
DATA = Path(os.environ.get("FREEHOLD_DATA", "."))
BARS = {
    "outside cells, share of processor time": 0.02,
    "resume of the finished suite, seconds": 3.0,
    "10,000 results listed, seconds": 2.0,
    "Ray with two workers / two plain processes": 1.1,
    "results other than in this process": 0,
}


def alone(name: str, folder: Path) -> dict[str, Any]:
    """Keeps what it found."""
    began, spent = time.monotonic(), time.process_time()
    found = run_suite(load_suite(name), folder / "alone", place=Place(DATA, folder / "cache"))
    seconds, spent = time.monotonic() - began, time.process_time() - spent
    inside = sum(outcome.made["processor_seconds"] for outcome in found.outcomes.values())
    shutil.copytree(folder / "alone", RESULTS / "suites" / name, dirs_exist_ok=True)
    return {
        "cells": found.counts(),
        "seconds": round(seconds, 1),
        "processor seconds": round(spent, 1),
        "outside cells, share of processor time": round((spent - inside) / spent, 5),
    }


def kept(name: str, folder: Path) -> dict[str, Any]:
    """Seconds of a new process, the best of three since the machine is not ours alone; of 10,000 results."""
    store = RESULTS / "suites" / name
    command = [sys.executable, "-m", "freehold", "bench", "run", name, "--results", str(store)]
    times = []
    for _ in range(3):
        began = time.monotonic()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.monotonic() - began)
    results = list(Store(store).outcomes().values())
    many = folder / "many" / "cells"
    many.mkdir(parents=True)
    for number in range(10_000):
        like = results[number % len(results)]
        cell = type(like.cell)({**like.cell.config, "seed": 1000 + number}, like.cell.trial)
        one = Outcome(cell, like.status, like.result, like.error, like.made)
        (many / f"{cell.name}.json").write_bytes(one.to_bytes())
    began = time.monotonic()
    assert len(Store(folder / "many").outcomes()) == 10_000
    listed = time.monotonic() - began
    return {
        "resume of the finished suite, seconds": round(min(times), 2),
        "10,000 results listed, seconds": round(listed, 2),
    }


def half(name: str, folder: str, index: int) -> None:
    cells = list({p.cell.name: p.cell for p in plan(load_suite(name))}.values())
    mine = cells[: len(cells) // 2] if index == 0 else cells[len(cells) // 2 :]
    store = Store(Path(folder) / f"half-{index}")
    for outcome in InProcess().outcomes(mine, Place(DATA, Path(folder) / f"cache-{index}")):
        store.write(outcome)


def side_by_side(name: str, folder: Path) -> dict[str, Any]:
    spawn, began = multiprocessing.get_context("spawn"), time.monotonic()
    both = [spawn.Process(target=half, args=(name, str(folder), index)) for index in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    plain, began = time.monotonic() - began, time.monotonic()
    suite = load_suite(name)
    place = Place(DATA, folder / "cache-ray")
    run_suite(suite, folder / "ray", place=place, runner=OnRay(suite.needs, workers=2))
    ray = time.monotonic() - began
    here, on_ray = (
        {name: outcome.digest for name, outcome in Store(place).outcomes().items()}
        for place in (RESULTS / "suites" / name, folder / "ray")
    )
    return {
        "two plain processes, seconds": round(plain, 1),
        "Ray with two workers, seconds": round(ray, 1),
        "Ray with two workers / two plain processes": round(ray / plain, 3),
        "results other than in this process": sum(here.get(n) != on_ray.get(n) for n in {*here, *on_ray}),
    }


PARTS = {"run": alone, "kept": kept, "ray": side_by_side}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=PARTS)
    part = parser.parse_args().part
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        os.environ["FREEHOLD_CACHE"] = str(folder / "images")  # synthetic images are part of the cost
        found = PARTS[part](SUITE, folder)
    found["bars"] = {
        name: {"most": bar, "holds": found[name] <= bar} for name, bar in BARS.items() if name in found
    }
    (RESULTS / f"bench-{part}.json").write_text(json.dumps({"suite": SUITE, **found}, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    sys.exit(not all(bar["holds"] for bar in found["bars"].values()))


if __name__ == "__main__":
    main()
