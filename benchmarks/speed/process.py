"""What is paid around the work: starting up, making batches, choosing threads."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from functools import partial

import torch

import freehold as fh
from benchmarks.speed.figures import Figure
from benchmarks.speed.measures import Here, Subject
from benchmarks.speed.ratio import Ratio
from benchmarks.speed.stepper import digits, plain, run
from freehold.data import Augment
from freehold.training import Trainer
from freehold.training.threads import choose_threads, usable_cores


class StartUp:
    """Processor seconds that the import and the help take."""

    def measure(self, quick: bool) -> list[Figure]:
        """Medians; of the import beyond what starting Python takes."""
        runs = 3 if quick else 7
        bare, imported, helped = (
            statistics.median(self._seconds(*command) for _ in range(runs))
            for command in (("-c", "pass"), ("-c", "import freehold"), ("-m", "freehold", "--help"))
        )
        return [
            Figure("import freehold, seconds", imported - bare, 0.3, kind="amount"),
            Figure("freehold --help, seconds in all", helped, 0.5, kind="amount"),
        ]

    @staticmethod
    def _seconds(*command: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *command], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def batches(images: int = 96) -> tuple[Subject, Subject]:
    """Two batches against two whole steps, which contain them."""
    given, steps = digits(), iter(range(10**9))
    stream = Trainer(run()).batches(
        given.authorized.train, given.input, images, "train", augment=Augment(shift=2)
    )
    return Here(lambda: [stream.batch(next(steps)) for _ in range(2)]), Here(plain("convnet", images))


class Threads:
    """Throughput at the count that is chosen over the best of all counts, in elapsed time."""

    def measure(self, quick: bool) -> list[Figure]:
        """And how long the choice took."""
        model, before = fh.load_model("convnet", 10), torch.get_num_threads()
        images = torch.randn(64, 3, 32, 32)

        def step(count: int) -> None:
            model(images[:count]).sum().backward()

        began = time.perf_counter()
        chosen = choose_threads(step, len(images))
        took = time.perf_counter() - began
        times = {count: self._seconds(partial(step, 64), count) for count in range(1, usable_cores() + 1)}
        torch.set_num_threads(before)
        return [
            Figure("threads: throughput as chosen / best", min(times.values()) / times[chosen], 0.9, True,
                   kind="amount"),
            Figure("threads: seconds to choose", took, 5.0, kind="amount"),
        ]  # fmt: skip

    @staticmethod
    def _seconds(step: partial[None], count: int) -> float:
        torch.set_num_threads(count)
        times = []
        for _ in range(4):
            began = time.perf_counter()
            step()
            times.append(time.perf_counter() - began)
        return min(times[1:])


PROCESS = [StartUp(), Ratio("data path / plain step", batches, 0.05), Threads()]
