"""Structured pruning by torch-pruning: whole channels leave the network, wherever they are tied together."""

from __future__ import annotations

import importlib
from typing import Any, ClassVar

from pydantic import Field
from torch import nn

from freehold.attacks.base import Attack, Taken
from freehold.attacks.fine_tune import FineTune
from freehold.data.domain import Domain, InputSpec
from freehold.errors import MissingDependencyError, ModelError
from freehold.models.anatomy import dry_run, find_head
from freehold.plugin import Card, Problem
from freehold.training import Trainer


class PruneChannels(Attack):
    """Removes the weakest groups of channels of each layer; the network becomes narrower."""

    name = "prune-channels"
    card: ClassVar[Card] = Card(
        title="Structured pruning",
        paper="DepGraph: Towards Any Structural Pruning",
        venue="CVPR 2023",
        goal="Make the network smaller for good, so that what was written into its channels goes with them.",
        changed=("the last layer is spared; groups by L2 norm, in one go, then fine-tuning",),
        undisclosed=("share and fine-tuning are ours",),
        needs=("weights", "labelled images unless epochs is 0", "the extra freehold[prune]"),
        breaks=("networks that torch-pruning cannot follow", "shares that the task does not bear"),
    )
    stronger: ClassVar[dict[str, Any]] = {"share": 0.7, "epochs": 30.0}

    share: float = Field(0.3, gt=0, lt=1, description="of each layer's channels that are removed")
    epochs: float = Field(5.0, ge=0, le=1000, description="of fine-tuning all layers afterwards")

    def _problems(self, model: nn.Module, domain: Domain, spec: InputSpec) -> list[Problem]:
        _library()  # a missing extra is no fault of the model: it has its own error
        return FineTune()._problems(model, domain, spec)

    def _run(self, model: nn.Module, domain: Domain, spec: InputSpec, trainer: Trainer) -> Taken:
        library, example = _library(), spec.example().to(trainer.device)
        head = model.get_submodule(find_head(model, example))
        try:
            library.pruner.BasePruner(
                model.eval(),
                example,
                importance=library.importance.GroupMagnitudeImportance(p=2),
                pruning_ratio=self.share,
                ignored_layers=[head],
            ).step()
        except Exception as error:  # it traces the network and may fail in any way
            raise ModelError(
                f"torch-pruning cannot follow it: {error!r}", where="model", fix="use attack fine-prune"
            ) from error
        dry_run(model, example)
        if not self.epochs:
            return Taken(model)
        return FineTune(epochs=self.epochs)._run(model, domain, spec, trainer)


def _library() -> Any:
    try:
        return importlib.import_module("torch_pruning")
    except ImportError as error:
        raise MissingDependencyError(
            f"torch-pruning cannot be imported: {error}",
            where="prune-channels",
            fix="pip install 'freehold[prune]'",
        ) from error
