"""How many CPU threads to use, found by timing real steps.

On shared or cgroup-limited machines torch's default can be over ten times slower than one thread,
and no property of the machine predicts it; a few timed steps do.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable

import torch

BUDGET_SECONDS = 4.0
PROBE_SECONDS = 0.15
HOPELESS = 1.6
logger = logging.getLogger(__name__)


def candidates(cores: int) -> list[int]:
    """Powers of two up to the number of usable cores, and that number itself."""
    powers = [1 << i for i in range(cores.bit_length()) if 1 << i <= cores]
    return sorted({*powers, cores})


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_threads(step: Callable[[int], None], batch_size: int, *, cores: int | None = None) -> int:
    """The count with the highest throughput, set by :func:`torch.set_num_threads` on return.

    Counts are tried upwards from one; the search ends when a count is hopelessly slower than the
    best so far or the budget is used up. Between the best two a middle count is tried as well.

    Args:
        step: does one forward and backward pass on the given number of images.
        batch_size: images in a real step; fewer are used when a full one takes too long to probe.
        cores: cores to consider, all usable ones by default.

    Returns:
        The chosen number of threads, at least 1.
    """
    started = time.perf_counter()
    torch.set_num_threads(1)
    images = min(4, batch_size)
    step(images)
    images = max(images, min(batch_size, int(images * PROBE_SECONDS / _seconds(step, images))))
    timings: dict[int, float] = {}
    queue = candidates(cores or usable_cores())
    while queue and (not timings or time.perf_counter() - started < BUDGET_SECONDS):
        count = queue.pop(0)
        torch.set_num_threads(count)
        warm_up = _seconds(step, images)
        best = min(timings.values(), default=float("inf"))
        timings[count] = warm_up if warm_up > 3 * best else min(_seconds(step, images) for _ in range(3))
        if timings[count] > HOPELESS * best:
            queue.clear()
        if not queue:
            queue = _middle(timings)
    chosen = min(timings, key=timings.__getitem__)
    torch.set_num_threads(chosen)
    shown = ", ".join(f"{n}: {images / t:.0f}/s" for n, t in sorted(timings.items()))
    logger.info("using %d CPU threads; images a second by count: %s", chosen, shown)
    return chosen


def _middle(timings: dict[int, float]) -> list[int]:
    best = min(timings, key=timings.__getitem__)
    tried = sorted(timings)
    around = [n for n in tried if n < best][-1:] + [n for n in tried if n > best][:1]
    middles = {(best + n) // 2 for n in around if abs(best - n) > 1}
    return sorted(middles - timings.keys()) if len(timings) < 12 else []


def _seconds(step: Callable[[int], None], images: int) -> float:
    began = time.perf_counter()
    step(images)
    return max(time.perf_counter() - began, 1e-9)
