"""What is measured of a call: processor seconds, and the most memory it holds at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
Measure = Callable[[Callable[[], Any]], T]


def seconds(call: Callable[[], Any]) -> float:
    """Processor seconds of this process, which other work on the machine hardly changes."""
    began = time.process_time()
    call()
    return time.process_time() - began


def repeated(times: int) -> Measure[float]:
    """Seconds of so many calls, for calls that are too short for the clock."""

    def measure(call: Callable[[], Any]) -> float:
        return seconds(lambda: [call() for _ in range(times)])

    return measure


def peak_bytes(call: Callable[[], Any]) -> int:
    """Most bytes that torch's allocator holds during the call beyond what stood before.

    Counted, not sampled: the same call gives the same number on any machine. What libraries allocate past
    torch (workspaces of a convolution) is not in it.
    """
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    held = most = 0
    for event in profiler.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


class Subject(Protocol):
    """A call that measures can be taken of, wherever it runs."""

    def ask(self, measure: Measure[T]) -> T:
        """What ``measure`` finds of the call."""

    def close(self) -> None:
        """Let go of what the call needs."""


@dataclass
class Here:
    """A call in this thread."""

    call: Callable[[], Any]

    def ask(self, measure: Measure[T]) -> T:
        """What ``measure`` finds of the call."""
        return measure(self.call)

    def close(self) -> None:
        """Nothing is held."""
