"""Does it hold, in numbers: suites of methods, domains, models, attacks and seeds, run cell by cell."""

from __future__ import annotations

from freehold.bench.cell import Cell, Trial
from freehold.bench.plan import Plan, plan
from freehold.bench.runner import Summary, run_suite
from freehold.bench.store import Outcome, Store
from freehold.bench.suite import Suite, load_suite, shipped

__all__ = [
    "Cell",
    "Outcome",
    "Plan",
    "Store",
    "Suite",
    "Summary",
    "Trial",
    "load_suite",
    "plan",
    "run_suite",
    "shipped",
]
