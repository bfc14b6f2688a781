"""``freehold train``: a source model, and how well it does on every domain."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from freehold.artifacts import RunFolder, as_json, fingerprint, finished
from freehold.config import Config
from freehold.errors import ConfigError
from freehold.jobs.assembly import assemble, header, identify, is_first
from freehold.jobs.reports import TrainReport
from freehold.metrics.accuracy import Accuracy, predict
from freehold.models.checkpoint import save_checkpoint, state_hash
from freehold.training.classifier import train_classifier
from freehold.training.trainer import Trainer

logger = logging.getLogger(__name__)


def train(config: Config, directory: str | Path, *, progress: bool = True) -> TrainReport:
    """Train the model of ``config`` on its authorized domain and publish the run ``directory``.

    An interrupted run of the same configuration goes on where it stopped; a finished one is reported.

    Args:
        config: ``[method]`` and ``[claims]`` play no part.
        directory: where the finished run stands.
        progress: show progress on standard error.

    Raises:
        FreeholdError: what is wrong, before training where it can be known; nothing is left behind then.
    """
    directory = Path(directory)
    identity = identify(config, "train")
    if finished(directory, identity) is not None:
        measured = json.loads((directory / "metrics.json").read_bytes())["accuracies"]
        found = {name: Accuracy.model_validate(accuracy) for name, accuracy in measured.items()}
        return TrainReport(directory, found, already=True)
    if config.data.authorized is None:
        raise ConfigError(
            "nothing to train on", where="data.authorized", fix='for example authorized = "digits"'
        )
    model, recipe, domains = assemble(config)
    folder = RunFolder(directory, identity, header(config, identity), writes=is_first())
    trainer = Trainer(config.run(folder.path, progress=progress), fingerprint(identity))
    with folder:
        logger.info("training on %s", domains.all()[0].name)
        history = train_classifier(model, domains.all()[0], domains.input, config.train, trainer)
        accuracies = {}
        for domain in domains.comparable().all():
            right = predict(model, domain.test, domains.input).cpu() == domain.test.labels
            accuracies[domain.name] = Accuracy.of(int(right.sum()), len(right))
            logger.info("accuracy on %s: %.4f", domain.name, accuracies[domain.name].value)
        model.to("cpu")
        if folder.writes:
            save_checkpoint(folder.path, model, recipe)
        report = TrainReport(directory, accuracies)
        folder.write("metrics.json", as_json({**report.to_json(), "histories": {"train": history.to_json()}}))
        folder.write("config.toml", config.to_toml().encode())
        folder.publish(
            seconds=history.seconds,
            state_hash=state_hash(model),
            domains={domain.name: dict(domain.record) for domain in domains.all()},
        )
    return report
