"""What a cell gives: figures that depend on its configuration alone, and how long that took."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from freehold.attacks.attacker import ATTACKERS, released, scratch, untrained
from freehold.attacks.base import Attack
from freehold.attacks.learning_curve import BUDGETS, Grid, attackers_share, learning_curve
from freehold.bench.cell import Cell, Trial
from freehold.bench.forgeries import forge
from freehold.bench.stages import Base, Made, Place, base, base_answers, device_of, protected
from freehold.bench.store import Outcome
from freehold.config import Config
from freehold.errors import FreeholdError, ProblemsError
from freehold.jobs.attacking import of_attacker
from freehold.keys import Key
from freehold.metrics.accuracy import predict
from freehold.metrics.transfer import Evaluation, summarise
from freehold.ownership.base import verify
from freehold.ownership.suspect import ModuleSuspect
from freehold.plugin import find
from freehold.protection import versions
from freehold.seeds import derive

logger = logging.getLogger(__name__)
VERDICT = {
    "decision", "reason", "matches", "trials", "rate", "null", "p_value", "p_adjusted", "alpha",
    "low", "high", "queries", "failure",
}  # fmt: skip


def attempt(cell: Cell, place: Place) -> Outcome:
    """Compute a cell, whatever happens: an error becomes part of the outcome.

    Only what ends the process, or is meant to, comes through.
    """
    began, spent = time.monotonic(), time.process_time()
    device, result = str(cell.config["train"]["device"]), None
    status, error = "done", ""
    try:
        with torch_threads(int(cell.config["train"]["threads"])):
            result = computed(cell, place)
    except Exception as problem:
        status, error = told(problem)
        logger.debug("cell %s", cell.name, exc_info=True)
    made = {
        "seconds": round(time.monotonic() - began, 3),
        "processor_seconds": round(time.process_time() - spent, 3),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else platform.machine(),
        "versions": versions(),
    }
    return Outcome(cell, status, result, error, made)


def told(problem: Exception) -> tuple[str, str]:
    """State of a cell that ended in ``problem``, and what to say of it."""
    if isinstance(problem, ProblemsError):
        return "inapplicable", str(problem)
    if isinstance(problem, MemoryError | torch.OutOfMemoryError):
        return "failed", f"out of memory: {problem}".rstrip(": ")
    return "failed", str(problem) if isinstance(
        problem, FreeholdError
    ) else f"{type(problem).__name__}: {problem}"


def computed(cell: Cell, place: Place) -> dict[str, Any]:
    """The figures of a cell, a pure function of its configuration.

    Raises:
        ProblemsError: the method or the attack does not apply.
        FreeholdError: data are missing, or something failed.
    """
    config, trial = cell.parsed()
    given = base(cell, place)
    made = protected(cell, place)
    device = device_of(given.run)
    if trial.kind == "curve":
        return {"curve": _curve(trial, given, made, config.seed)}
    if trial.kind == "forgery":
        return {"forgery": forge(trial.name, cell, place)}
    answers = base_answers(cell, place)
    if trial.kind == "none":
        shown = _shown(made.model, given, answers, made.key, device)
        return {**shown, "unmarked": _verdict(given.model, made.key, given, "the base model")}
    return _attacked(trial, config, given, made, answers, device)


def _attacked(
    trial: Trial, config: Config, given: Base, made: Made, answers: Any, device: torch.device
) -> dict[str, Any]:
    kind = find(trial.name)
    assert issubclass(kind, Attack)
    attack = kind(**trial.fields)
    mine = of_attacker(given.domains, trial.data)
    run = given.run.model_copy(update={"seed": derive(config.seed, "attacker")})
    found = attack.run(made.model, mine, given.domains.input, run=run)
    last = (
        None if found.last is found.model else _shown(found.last, given, answers, made.key, device)
    )  # fmt: skip
    cost = {key: value for key, value in found.record["cost"].items() if key != "seconds"}
    return {
        **_shown(found.model, given, answers, made.key, device),
        "last": last,
        "cost": cost,
    }


def _shown(
    model: nn.Module, given: Base, answers: Any, key: Key | None, device: torch.device
) -> dict[str, Any]:
    """What a model does on every domain against the unprotected one, and what the owner's key says of it."""
    model.to(device)
    domains = given.domains
    precision = given.run.precision
    after = {d.name: predict(model, d.test, domains.input, precision=precision).cpu() for d in domains.all()}
    evaluation: Evaluation = summarise(domains, {name: (answers[name], after[name]) for name in after})
    return {"evaluation": evaluation.to_json(), "verdict": _verdict(model, key, given, "the model")}


def _verdict(model: nn.Module, key: Key | None, given: Base, name: str) -> dict[str, Any] | None:
    if key is None:
        return None
    suspect = ModuleSuspect(model, given.domains.input, name=name)
    found = verify(suspect, key, commitment=key.commitment)
    return found.model_dump(mode="json", include=VERDICT)


def _curve(trial: Trial, given: Base, made: Made, seed: int) -> dict[str, Any]:
    spec, thief = given.domains.input, attackers_share(given.domains.unauthorized[0])
    classes = thief.num_classes
    if trial.name == "scratch":
        start = scratch(untrained(given.model), spec, classes)
    else:
        start = released(made.model, ATTACKERS[trial.name], spec, classes)
    grid = Grid(sizes=tuple(trial.fields["sizes"]), seeds=1)
    budget = BUDGETS[trial.fields["budget"]]
    run = given.run.model_copy(update={"seed": derive(seed, "attacker")})
    return learning_curve(trial.name, start, thief, spec, budget, grid, run).model_dump(mode="json")


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """So many threads inside, as many as before afterwards: sums depend on how they are parted."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
