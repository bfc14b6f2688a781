"""A call against the floor that it cannot go below, pair by pair."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.speed.figures import Figure
from benchmarks.speed.measures import Subject, peak_bytes, repeated

SHORTEST = 0.004  # seconds: shorter calls are repeated within a measurement


@dataclass(frozen=True)
class Ratio:
    """Median of paired time ratios; the pairs run one after the other, in turns of order.

    Attributes:
        name: of the figure.
        build: gives the call and its floor.
        bar: of the time ratio.
        at_least: whether more is better.
        memory: bar of the ratio of peak memory; inf measures it without a bar, None does not.
    """

    name: str
    build: Callable[[], tuple[Subject, Subject]]
    bar: float | None = None
    at_least: bool = False
    memory: float | None = None

    def measure(self, quick: bool) -> list[Figure]:
        """Time ratio, and memory ratio if asked for."""
        call, floor = self.build()
        try:
            found = [self._time(call, floor, quick)]
            if self.memory is not None:
                ratio = call.ask(peak_bytes) / max(1, floor.ask(peak_bytes))
                bar = None if self.memory == float("inf") else self.memory
                found.append(Figure(f"{self.name}, peak memory", ratio, bar, kind="memory"))
            return found
        finally:
            call.close()
            floor.close()

    def _time(self, call: Subject, floor: Subject, quick: bool) -> Figure:
        least, most, budget = (3, 20, 0.5) if quick else (9, 300, 2.0)
        for subject in (floor, call):
            subject.ask(repeated(1))  # what is made on first use
        times = max(1, round(SHORTEST / max(1e-7, floor.ask(repeated(3)) / 3)))
        once = repeated(times)
        ratios: list[float] = []
        spent = 0.0
        while len(ratios) < least or (spent < budget and len(ratios) < most):
            pair = (floor, call) if len(ratios) % 2 else (call, floor)
            taken = {id(subject): subject.ask(once) for subject in pair}
            ratios.append(taken[id(call)] / taken[id(floor)])
            spent += sum(taken.values())
        first, middle, third = statistics.quantiles(ratios, n=4)
        return Figure(self.name, middle, self.bar, self.at_least, spread=(first, third))
