"""Speed against floors, measured in one run.

    python -m benchmarks.speed [--quick] [--accept] [--only TEXT] [--out DIR]

Every ratio is the median of pairs that run one after the other, in processor time, so that a machine's
mood cancels out. Leaves with 1 if a bar is missed or a ratio is more than 15 % worse than the committed one.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

OURS = Path(__file__).resolve().parents[1]


def main() -> None:
    arguments = parsed()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["TORCH_CPP_LOG_LEVEL"] = "ERROR"  # what was allocated before a profile is no news
    with tempfile.TemporaryDirectory() as cache:
        os.environ["FREEHOLD_CACHE"] = cache  # what was made before would be no cost
        sys.exit(ran(arguments))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer repeats; nothing is compared or written")
    parser.add_argument(
        "--accept", action="store_true", help="commit to what is found: write results/speed.*"
    )
    parser.add_argument("--only", metavar="TEXT", help="figures whose name holds this; nothing is written")
    parser.add_argument("--out", type=Path, default=OURS / ".cache" / "speed", help="where JSON and page go")
    arguments = parser.parse_args()
    if arguments.accept and (arguments.quick or arguments.only):
        parser.error("--accept takes a whole run, neither --quick nor --only")
    return arguments


def ran(arguments: argparse.Namespace) -> int:
    import torch

    from benchmarks.speed.figures import Figure, Measurable
    from benchmarks.speed.page import write
    from benchmarks.speed.regression import COMMITTED, BadRecord, committed, complaints, measured, record
    from freehold.training.threads import usable_cores

    torch.set_num_threads(1)
    try:
        known = {} if arguments.quick or arguments.accept else committed(COMMITTED)
    except BadRecord as error:
        print(error, file=sys.stderr)
        return 1
    groups: dict[str, list[Figure]] = {}
    began = time.process_time()
    for title, listed in suite().items():
        subjects: Sequence[Measurable] = listed()
        chosen = [s for s in subjects if not arguments.only or arguments.only in getattr(s, "name", title)]
        if chosen:
            print(f"\n{title}", flush=True)
        for subject in chosen:
            for figure in (found := measured(subject, known, quick=arguments.quick)):
                print(figure.line(known.get(figure.name)), flush=True)
            groups.setdefault(title, []).extend(found)
    bad = complaints([figure for figures in groups.values() for figure in figures], known)
    machine = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "cores": usable_cores(),
        "processor seconds": round(time.process_time() - began),
    }
    print("\n" + "\n".join(bad or ["all bars hold"]) + f"\n{machine['processor seconds']} processor seconds")
    if not arguments.quick and not arguments.only:
        folder = COMMITTED.parent if arguments.accept else arguments.out
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "speed.json").write_text(record(groups, machine))
        print(write(groups, machine, known, folder / "speed.html"))
    return bool(bad)


def suite() -> dict[str, Callable[[], Sequence[object]]]:
    """The groups by title, each made when its turn comes."""
    from benchmarks.speed.inference import inference
    from benchmarks.speed.losses import LOSSES
    from benchmarks.speed.process import PROCESS
    from benchmarks.speed.scaling import GROWTH
    from benchmarks.speed.steps import STEPS
    from benchmarks.speed.verifiers import VERIFIERS

    return {
        "Around the work": lambda: PROCESS,
        "Losses": lambda: LOSSES,
        "Answering": inference,
        "Verifying": lambda: VERIFIERS,
        "Growth": lambda: GROWTH,
        "A step of each method": lambda: STEPS,
    }


if __name__ == "__main__":
    main()
