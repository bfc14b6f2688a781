"""``freehold evaluate``: measure a protected run again, on its own and on further domains."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from freehold.artifacts import verify_run
from freehold.config import Config, from_json
from freehold.data.domain import InputSpec
from freehold.errors import ArtifactError, MissingInputError, UsageError
from freehold.jobs.account import build_page, sentences
from freehold.jobs.assembly import assemble, load_shipped
from freehold.jobs.learning import LearningCurves
from freehold.jobs.protecting import IMAGES
from freehold.jobs.reports import MeasuredReport
from freehold.metrics.claims import Claims
from freehold.metrics.transfer import evaluate as measure
from freehold.models.checkpoint import state_hash
from freehold.report import write_page
from freehold.training.run import Execution, Run
from freehold.training.threads import choose_threads
from freehold.training.trainer import Trainer


def evaluate(
    directory: str | Path,
    *,
    on: Sequence[str] = (),
    authorized: str | None = None,
    original: str | Path | None = None,
    uri: str | None = None,
    claims: Claims | None = None,
    page: str | Path | None = None,
    learning: LearningCurves | None = None,
) -> MeasuredReport:
    """Check a run made by ``protect`` byte by byte and measure it again.

    Args:
        directory: the run.
        on: URIs of further unauthorized domains.
        authorized: URI of an authorized domain, where the run has none or another is wanted; a few test
            images are enough for an answer with its interval.
        original: the unprotected model, if it is no longer where the run's configuration says.
        uri: allows a model that the owner's code builds, as ``package.module:factory``.
        claims: bars to hold; by default those of the run's configuration.
        page: also write a page about this measurement, outside the run.
        learning: also fine-tune the model on every unauthorized domain, as an attacker would.

    Raises:
        ArtifactError: the run was altered, or the original is not the model that was protected.
        MissingInputError: the run, its data or the original is gone.
        UsageError: the run is none of ``protect``, or ``page`` would change it.
    """
    directory = Path(directory)
    if page is not None and Path(page).resolve().is_relative_to(directory.resolve()):
        raise UsageError("a page inside the run would alter it", where=str(page), fix="write it elsewhere")
    run = verify_run(directory)
    if run.get("job") != "protect":
        raise UsageError(
            "holds no protected model", where=str(directory), fix="name a run made by 'freehold protect'"
        )
    config = _adapted(from_json(run["config"]), on, authorized, original, uri)
    method, weights = config.method, Path(config.model.weights or "")
    if method is None or not weights.exists():
        raise MissingInputError(
            "the original model is gone", where=str(weights), fix="give it with --original PATH"
        )
    shipped, recipe = load_shipped(directory, uri)
    model, _, domains = assemble(config, recipe)
    record = run["record"]
    if state_hash(model) != record["source_hash"]:
        raise ArtifactError(
            "is not the model that was protected", where=str(weights), fix="give it with --original PATH"
        )
    device = _place(config.train, model, domains.input)
    model, shipped, measured = model.to(device), shipped.to(device), domains.comparable()
    evaluation = measure(model, shipped, measured)
    learned = [learning.measure(shipped, model, d, recipe, config) for d in domains.unauthorized if learning]
    metrics = json.loads((directory / "metrics.json").read_bytes())
    kept = {name: (pair[0], pair[1]) for name, pair in metrics["kept"].items()}
    summary = sentences(method, recipe, evaluation, kept, domains, retrained=record["retrained"])
    if page is not None:
        images = load_file(directory / IMAGES)
        histories = metrics["histories"]
        contents = build_page(config, evaluation, measured, summary, record, histories, kept, images, learned)
        page = write_page(contents, page)
    judged = tuple((claims or config.claims).check(evaluation))
    return MeasuredReport(directory, evaluation, summary, judged, page, learned=tuple(learned))


def _adapted(
    config: Config,
    on: Sequence[str],
    authorized: str | None,
    original: str | Path | None,
    uri: str | None,
) -> Config:
    """The run's configuration with further domains and another place of the original.

    Code to build the model is named by the caller only, never by what the run says.
    """
    data = config.to_json()
    data["model"].pop("uri", None)
    data["data"]["unauthorized"] = [*data["data"]["unauthorized"], *on]
    if authorized is not None:
        data["data"]["authorized"] = authorized
    if original is not None:
        data["model"]["weights"] = str(original)
    if uri is not None:
        data["model"]["uri"] = uri
    return from_json(data)


def _place(execution: Execution, model: nn.Module, spec: InputSpec) -> torch.device:
    """The device to measure on, with a sensible number of threads if that is the CPU."""
    device: torch.device = Trainer(Run(device=execution.device)).device
    if device.type == "cpu" and execution.threads != "auto":
        torch.set_num_threads(execution.threads)
    elif device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        images = spec.example().repeat(32, 1, 1, 1)
        model.eval()
        choose_threads(torch.inference_mode()(lambda count: model(images[:count])), len(images))
    return device
