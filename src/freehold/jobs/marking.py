"""``freehold watermark``: a model that carries its owner's key, the key in a file of its own, and a page."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from freehold.artifacts import RunFolder, as_json, finished, verify_run
from freehold.config import Config
from freehold.errors import ConfigError, ProblemsError, UsageError
from freehold.jobs.account import build_page, owners_sentence
from freehold.jobs.assembly import assemble, header, identify, is_first
from freehold.jobs.keeping import CustomersCopy, OwnFile, Passphrase
from freehold.jobs.protecting import IMAGES, PAGE
from freehold.jobs.reports import MeasuredReport
from freehold.jobs.verifying import evidence, in_words
from freehold.metrics.transfer import Evaluation, evaluate, summarise
from freehold.ownership.base import OwnershipMethod
from freehold.ownership.suspect import ModuleSuspect
from freehold.ownership.verdict import Verdict
from freehold.report import write_page
from freehold.training.trainer import Trainer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MarkedReport(MeasuredReport):
    """A marked run.

    Attributes:
        key: the encrypted key file.
        commitment: to publish before the model.
        verdicts: on the marked model, and on the model as it was before.
    """

    key: Path = Path()
    commitment: str = ""
    verdicts: tuple[Verdict, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON-able data."""
        verdicts = [verdict.model_dump(mode="json") for verdict in self.verdicts]
        own = {"key": str(self.key), "commitment": self.commitment, "verdicts": verdicts}
        return {**super().to_json(), **own}


def config_of_run(directory: str | Path) -> dict[str, Any]:
    """The configuration that marks the model of a finished run, on the data that the run was made with.

    Raises:
        ArtifactError: the run was altered.
        UsageError: it is a release, which does not say on what data it was trained.
    """
    config: dict[str, Any] = verify_run(Path(directory)).get("config", {})
    if not config:
        raise UsageError("says nothing of its data", where=str(directory), fix="name the run it came from")
    kept = {name: section for name, section in config.items() if name not in ("method", "claims")}
    # The architecture stands in the run's recipe; code to build it is named by the caller only.
    return {**kept, "model": {"weights": str(directory)}, "method": {"name": "trigger-set"}}


def watermark(
    config: Config,
    directory: str | Path,
    key_file: str | Path,
    passphrase: Passphrase,
    *,
    owner: str = "",
    customer: str = "",
    progress: bool = True,
) -> MarkedReport:
    """Mark the model of ``config`` with a new key, measure it, and publish the run ``directory``.

    The key is written, encrypted, before any work, and again when it is bound to the marked model: an
    interrupted run goes on with the same key. A customer's key is derived, and written when it is bound.

    Args:
        config: needs an ownership ``[method]``, and ``model.weights`` unless it marks an untrained model.
        directory: where the finished run stands; nothing in it tells the key.
        key_file: where the key goes; never inside the run. For a customer's copy the owner's vault.
        passphrase: gives the key's passphrase when it is needed, told whether the key is new.
        owner: a name that becomes part of the key.
        customer: whose copy it is, known to the vault by this name; by default the owner's own.
        progress: show progress on standard error.

    Raises:
        ProblemsError: every reason why the method cannot run on this model and these domains.
        FreeholdError: what else is wrong; before training where it can be known, with nothing left behind.
    """
    directory, key_file, method = Path(directory), Path(key_file), config.method
    if not isinstance(method, OwnershipMethod):
        what = (
            f"{method.name} binds a model and marks none" if method else "which method is to mark the model?"
        )
        raise ConfigError(what, where="method.name", fix='for example name = "trigger-set"')
    if config.model.weights is None and getattr(method, "start", "trained") == "trained":
        raise ConfigError(
            "there is no trained model to mark",
            where="model.weights",
            fix="name a safetensors file, or run 'freehold train' first and name its run directory",
        )
    if key_file.resolve().is_relative_to(directory.resolve()):
        raise UsageError("a run directory is no place for a key", where=str(key_file), fix="keep it apart")
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise UsageError("a key is made by one process", where="watermark", fix="start it without torchrun")
    identity = {**identify(config, "watermark"), "owner": owner}
    if customer:
        identity["customer"] = customer
    if (run := finished(directory, identity)) is not None:
        return _finished(config, directory, key_file, run)
    model, recipe, domains = assemble(config)
    if problems := method.problems(model, domains):
        raise ProblemsError(method.name, problems)
    folder = RunFolder(directory, identity, header(config, identity), writes=is_first())
    settings = config.run(folder.path, progress=progress)
    Trainer(settings)  # refuses a device or precision that this machine lacks, before anything is written
    keeping = (
        CustomersCopy(key_file, passphrase, owner, customer)
        if customer
        else OwnFile(key_file, passphrase, owner)
    )
    keeping.look(resuming=folder.path.exists())
    try:
        with folder:  # before the key is written: killed in between, the same command goes on
            key = keeping.obtain()
            logger.info("marking with %s", method.name)
            protected = method.protect(model, domains, run=settings, key=key)
            assert protected.key is not None  # of an ownership method
            device = torch.device(protected.record["device"])
            measured = domains.comparable()
            model, shipped = model.to(device), protected.model.to(device)
            evaluation = evaluate(model, shipped, measured) if measured.all() else summarise(measured, {})
            verdicts = tuple(
                method.verify(
                    ModuleSuspect(found, domains.input, name=name),
                    protected.key,
                    commitment=protected.key.commitment,
                )
                for name, found in (("the marked model", shipped), ("the model before", model))
            )
            protected.model.to("cpu")
            record = dict(protected.record)
            histories = record.pop("histories")
            summary = _sentences(method, evaluation, verdicts)
            report = MarkedReport(
                directory,
                evaluation,
                summary,
                tuple(config.claims.check(evaluation)),
                directory / PAGE,
                key=key_file,
                commitment=protected.key.commitment,
                verdicts=verdicts,
            )
            protected.save(folder.path, recipe)
            folder.write(IMAGES, save({k: v.contiguous() for k, v in protected.images.items()}))
            page = build_page(
                config, evaluation, measured, summary, record, histories, protected.kept(), protected.images
            )
            shown = replace(
                page,
                evidence=[evidence(v) for v in verdicts],
                commitment=report.commitment,
                figures=record["figures"],
                notes=[*page.notes, *verdicts[0].caveats],
            )
            write_page(shown, folder.path / PAGE)
            told = {key: value for key, value in report.to_json().items() if key != "key"}
            folder.write("metrics.json", as_json({**told, "histories": histories}))
            folder.write("config.toml", config.to_toml().encode())
            keeping.keep(protected.key)
            folder.publish(commitment=report.commitment, record=record)
    except BaseException:
        if not folder.path.exists() and not directory.exists():
            keeping.forget()
        raise
    return report


def _sentences(
    method: OwnershipMethod, evaluation: Evaluation, verdicts: tuple[Verdict, ...]
) -> tuple[str, ...]:
    """What was done, what it costs the owner, and what it shows."""
    marked, before = verdicts
    on = evaluation.domains[0].name if evaluation.domains else "the model"
    paid = [owners_sentence(d) for d in evaluation.domains if d.role == "authorized"]
    shown = in_words(marked)
    return (
        f"{type(method).__name__} marked the model of {on} with {marked.trials} secret answers.",
        *paid,
        shown[0].upper() + shown[1:],
        f"The model before marking gives {before.matches}.",
    )


def _finished(config: Config, directory: Path, key_file: Path, run: dict[str, Any]) -> MarkedReport:
    metrics = json.loads((directory / "metrics.json").read_bytes())
    evaluation = Evaluation.model_validate(metrics["evaluation"])
    return MarkedReport(
        directory,
        evaluation,
        tuple(metrics["summary"]),
        tuple(config.claims.check(evaluation)),
        directory / PAGE,
        already=True,
        key=key_file,
        commitment=run["commitment"],
        verdicts=tuple(Verdict.model_validate(verdict) for verdict in metrics["verdicts"]),
    )
