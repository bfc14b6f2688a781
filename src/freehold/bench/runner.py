"""Running a suite: what is missing is computed, each outcome is written as it comes, nothing twice."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from freehold.bench.cell import Cell
from freehold.bench.plan import Plan, plan
from freehold.bench.stages import Place, forget
from freehold.bench.store import Outcome, Store
from freehold.bench.suite import Suite
from freehold.training.progress import progress

logger = logging.getLogger(__name__)


class Runner(Protocol):
    """Computes cells in some order."""

    @property
    def running(self) -> int:
        """How many are under way."""

    def outcomes(self, cells: Sequence[Cell], place: Place) -> Iterator[Outcome]:
        """Every cell's outcome, once, as it comes."""


class InProcess:
    """One cell after the other, in this process."""

    running = 1

    def outcomes(self, cells: Sequence[Cell], place: Place) -> Iterator[Outcome]:
        """Every cell's outcome, in order."""
        from freehold.bench.measure import attempt

        forget()  # an error of an earlier run may be mended by now
        for cell in cells:
            yield attempt(cell, place)


@dataclass(frozen=True)
class Summary:
    """A suite after a run.

    Attributes:
        plans: every cell of the suite, in its order.
        outcomes: by cell name; a cell that is missing has none.
        computed: how many were run now.
    """

    plans: Sequence[Plan]
    outcomes: dict[str, Outcome]
    computed: int = 0

    def counts(self) -> dict[str, int]:
        """Different cells by state: done, inapplicable, failed, missing."""
        states = {p.cell.name: self.state(p) for p in self.plans}
        return {
            state: sum(found == state for found in states.values())
            for state in ("done", "inapplicable", "failed", "missing")
        }

    def state(self, one: Plan) -> str:
        """Of one cell."""
        found = self.outcomes.get(one.cell.name)
        return found.status if found else "missing"

    def failures(self) -> list[tuple[Plan, str]]:
        """What failed, and why."""
        return [(p, self.outcomes[p.cell.name].error) for p in self.plans if self.state(p) == "failed"]

    def to_json(self) -> dict[str, Any]:
        """As JSON-able data."""
        failures = [
            {"cell": p.cell.name, "block": p.block, "pair": p.pair, "model": p.model, "method": p.method,
             "trial": p.trial, "seed": p.seed, "error": error}
            for p, error in self.failures()
        ]  # fmt: skip
        return {"cells": self.counts(), "computed": self.computed, "failures": failures}


def run_suite(
    suite: Suite,
    results: Path | str,
    *,
    place: Place | None = None,
    runner: Runner | None = None,
    show: bool = True,
) -> Summary:
    """Compute every cell of ``suite`` that has no result yet.

    An interrupted run loses the cells under way and nothing else; the same call goes on with the rest. A cell
    that failed is tried again.

    Args:
        suite: what to run.
        results: folder of the results; several suites may share one.
        place: data and shared models.
        runner: in this process by default.
        show: progress on standard error.

    Raises:
        ConfigError: the suite names what does not exist.
        OutputError: another process writes to ``results``, or it cannot be written.
        ArtifactError: ``results`` holds a damaged or foreign file.
    """
    plans, store = plan(suite), Store(results)
    runner, place = runner or InProcess(), place or Place.default()
    with store.driving():
        known = store.outcomes()
        wanted = {p.cell.name: p.cell for p in plans}
        todo = [cell for name, cell in wanted.items() if name not in known or not known[name].finished]
        done, failed = len(wanted) - len(todo), 0
        with progress(suite.title, len(wanted), start=done, visible=show and bool(todo)) as report:
            report(done, {"running": runner.running, "failed": failed})
            for outcome in runner.outcomes(todo, place):
                store.write(outcome)
                known[outcome.cell.name] = outcome
                done, failed = done + 1, failed + (not outcome.finished)
                report(done, {"running": min(runner.running, len(wanted) - done), "failed": failed})
                if not outcome.finished:
                    logger.warning("cell %s failed: %s", outcome.cell.name, outcome.error)
    return Summary(plans, {name: known[name] for name in wanted if name in known}, len(todo))


def look(suite: Suite, results: Path | str) -> Summary:
    """A suite and what results there are, without running anything.

    Raises:
        ConfigError, ArtifactError: as :func:`run_suite`.
    """
    plans, known = plan(suite), Store(results).outcomes()
    names = {p.cell.name for p in plans}
    return Summary(plans, {name: found for name, found in known.items() if name in names})
