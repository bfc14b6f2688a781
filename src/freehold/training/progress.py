"""Progress of long work: a live bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

LINE_SECONDS = 15.0
logger = logging.getLogger(__name__)


class Report(Protocol):
    """Receives the number of finished steps and the newest figures."""

    def __call__(self, done: int, figures: Mapping[str, float]) -> None:
        """Show ``done`` steps and ``figures``."""


def _text(figures: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.3g}" for name, value in figures.items())


@contextmanager
def progress(title: str, total: int, *, start: int = 0, visible: bool = True) -> Iterator[Report]:
    """Context that yields a :class:`Report`.

    Args:
        title: what is being done.
        total: steps in all.
        start: steps already done by an earlier run.
        visible: show nothing when false (workers that are not the first, quiet runs).
    """
    if not visible:
        yield lambda done, figures: None
    elif sys.stderr.isatty():
        yield from _bar(title, total, start)
    else:
        yield from _lines(title, total, start)


def _bar(title: str, total: int, start: int) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[figures]}"), console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total, completed=start, figures="")

        def report(done: int, figures: Mapping[str, float]) -> None:
            bar.update(task, completed=done, figures=_text(figures))

        yield report


def _lines(title: str, total: int, start: int) -> Iterator[Report]:
    began = last = time.monotonic()

    def report(done: int, figures: Mapping[str, float]) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < LINE_SECONDS and done < total:
            return
        last = now
        left = (now - began) / max(done - start, 1) * (total - done)
        print(f"{title}: {done}/{total}, {left:.0f} s left  {_text(figures)}", file=sys.stderr, flush=True)

    yield report
