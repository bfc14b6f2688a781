"""How seconds grow with a size: the exponent of the power law through the measurements."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.speed.figures import Figure
from benchmarks.speed.measures import seconds

BUDGET = 3.0  # seconds after which no further round begins


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """Slope of the least-squares line through the logarithms of ``(size, seconds)``.

    Below the true power where a part of the cost is constant, never above it.
    """
    return statistics.linear_regression(
        [math.log(size) for size, _ in points], [math.log(taken) for _, taken in points]
    ).slope


@dataclass(frozen=True)
class Growth:
    """Seconds over a size.

    Attributes:
        name: of the figure.
        sizes: ascending, what ``build`` is called with.
        build: gives the call of a size; what it does itself is not timed.
        bar: of the exponent.
        size_of: what stands on the axis for a size, where that is another number.
    """

    name: str
    sizes: Sequence[int]
    build: Callable[[int], Callable[[], Any]]
    bar: float | None = None
    size_of: Callable[[int], float] = float

    def measure(self, quick: bool) -> list[Figure]:
        """The exponent, fitted to the medians of rounds that go through all sizes."""
        calls = {size: self.build(size) for size in self.sizes}
        times: dict[int, list[float]] = {size: [] for size in self.sizes}
        calls[self.sizes[0]]()  # what is made on first use
        spent = 0.0
        while not spent or (not quick and spent < BUDGET and len(times[self.sizes[0]]) < 5):
            for size, call in calls.items():
                times[size].append(seconds(call))
                spent += times[size][-1]
        points = tuple((self.size_of(size), statistics.median(taken)) for size, taken in times.items())
        return [Figure(self.name, exponent(points), self.bar, kind="exponent", points=points)]
