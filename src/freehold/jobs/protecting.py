"""``freehold protect``: the protected model, what it does, and the page that shows it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import torch
from safetensors.torch import save

from freehold.artifacts import RunFolder, as_json, finished
from freehold.config import Config
from freehold.errors import ConfigError, ProblemsError
from freehold.jobs.account import build_page, sentences
from freehold.jobs.assembly import assemble, header, identify, is_first
from freehold.jobs.reports import MeasuredReport
from freehold.metrics.transfer import Evaluation, evaluate, summarise
from freehold.report import write_page
from freehold.training.trainer import Trainer

logger = logging.getLogger(__name__)
PAGE, IMAGES = "page.html", "images.safetensors"


def protect(config: Config, directory: str | Path, *, progress: bool = True) -> MeasuredReport:
    """Protect the model of ``config`` with its method, measure both and publish the run ``directory``.

    An interrupted run of the same configuration goes on where it stopped; a finished one is reported.

    Args:
        config: needs ``[method]`` and ``model.weights``.
        directory: where the finished run stands.
        progress: show progress on standard error.

    Raises:
        ProblemsError: every reason why the method cannot run on this model and these domains.
        FreeholdError: what else is wrong; before training where it can be known, with nothing left behind.
    """
    directory, method = Path(directory), config.method
    if method is None:
        raise ConfigError(
            "which method is to protect the model?", where="method.name", fix='for example name = "map"'
        )
    if method.kind == "ownership":
        raise ConfigError(
            f"{method.name} makes a key, and a run directory is no place for one",
            where="method.name",
            fix="use 'freehold watermark', which keeps the key in an encrypted file of its own",
        )
    if config.model.weights is None:
        raise ConfigError(
            "there is no trained model to protect",
            where="model.weights",
            fix="name a safetensors file, or run 'freehold train' first and name its run directory",
        )
    identity = identify(config, "protect")
    if finished(directory, identity) is not None:
        return _finished(config, directory)
    model, recipe, domains = assemble(config)
    if problems := method.problems(model, domains):
        raise ProblemsError(method.name, problems)
    folder = RunFolder(directory, identity, header(config, identity), writes=is_first())
    run = config.run(folder.path, progress=progress)
    Trainer(run)  # refuses a device or precision that this machine lacks, before anything is written
    with folder:
        logger.info("protecting with %s", method.name)
        protected = method.protect(model, domains, run=run)
        device = torch.device(protected.record["device"])
        measured = domains.comparable()
        model, shipped = model.to(device), protected.model.to(device)
        evaluation = evaluate(model, shipped, measured) if measured.all() else summarise(measured, {})
        protected.model.to("cpu")
        kept = protected.kept()
        summary = sentences(
            method, recipe, evaluation, kept, domains, retrained=protected.record["retrained"]
        )
        claims = tuple(config.claims.check(evaluation))
        report = MeasuredReport(directory, evaluation, summary, claims, directory / PAGE)
        for sentence in summary:
            logger.info(sentence)
        record = dict(protected.record)
        histories = record.pop("histories")
        if folder.writes:
            protected.save(folder.path, recipe)
            folder.write(IMAGES, save({k: v.contiguous() for k, v in protected.images.items()}))
            page = build_page(
                config, evaluation, measured, summary, record, histories, kept, protected.images
            )
            write_page(page, folder.path / PAGE)
        folder.write("metrics.json", as_json({**report.to_json(), "histories": histories, "kept": kept}))
        folder.write("config.toml", config.to_toml().encode())
        folder.publish(record=record)
    return report


def _finished(config: Config, directory: Path) -> MeasuredReport:
    metrics = json.loads((directory / "metrics.json").read_bytes())
    evaluation = Evaluation.model_validate(metrics["evaluation"])
    claims, page = tuple(config.claims.check(evaluation)), directory / PAGE
    return MeasuredReport(directory, evaluation, tuple(metrics["summary"]), claims, page, already=True)
