"""Fine-pruning: channels that clean images leave asleep are cut, and what is left is trained on."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from freehold.attacks.base import Attack, Taken
from freehold.attacks.fine_tune import FineTune
from freehold.data.domain import Domain, InputSpec
from freehold.metrics.accuracy import apply
from freehold.models.anatomy import Tap
from freehold.models.channels import Unit, channel_units
from freehold.plugin import Card, Problem
from freehold.training import Trainer


class FinePrune(Attack):
    """Cuts the channels of one layer that answer clean images least, and fine-tunes what is left."""

    name = "fine-prune"
    card: ClassVar[Card] = Card(
        title="Fine-pruning",
        paper="Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural Networks",
        venue="RAID 2018",
        goal="Cut the channels that only triggers wake, then repair the task by fine-tuning.",
        changed=(
            "the layer is the last convolution whose channels go to one other layer only",
            "a fixed share is cut at once; the publication cuts until accuracy falls",
        ),
        undisclosed=("later work cuts 80 to 96 % of a layer, with fine-tuning of its own",),
        needs=("labelled images",),
        breaks=("marks that live in channels which clean images need as well",),
    )
    stronger: ClassVar[dict[str, Any]] = {"share": 0.95, "epochs": 30.0, "lr": 0.05, "schedule": "halving"}

    share: float = Field(0.8, gt=0, lt=1, description="of the layer's channels that are cut")
    epochs: float = Field(10.0, gt=0, le=1000, description="of fine-tuning afterwards, zeros kept")
    lr: float = Field(0.01, gt=0, le=10, description="SGD with momentum 0.9")
    schedule: Literal["constant", "cosine", "halving"] = Field(
        "constant", description="halving: half the learning rate after each sixth of the epochs"
    )

    def _problems(self, model: nn.Module, domain: Domain, spec: InputSpec) -> list[Problem]:
        if channel_units(model, spec.example()):
            return []
        what = "has no layer whose channels go to one other layer only"
        return [Problem(where="model", what=what, fix="prune single weights: attack prune")]

    def _run(self, model: nn.Module, domain: Domain, spec: InputSpec, trainer: Trainer) -> Taken:
        units = channel_units(model, spec.example())
        convolutions = [u for u in units if isinstance(model.get_submodule(u.layer), nn.modules.conv._ConvNd)]
        unit = (convolutions or units)[-1]
        awake = activity(model, unit, domain, spec, trainer.run.precision)
        put_out(model, unit, awake.argsort()[: round(self.share * unit.channels)])
        tuning = FineTune(zeros="kept", epochs=self.epochs, lr=self.lr, schedule=self.schedule)
        return tuning._run(model, domain, spec, trainer)


def activity(
    model: nn.Module, unit: Unit, domain: Domain, spec: InputSpec, precision: str = "fp32"
) -> Tensor:
    """Mean size ``(C,)`` of what the unit's reader sees of each channel on the attacker's images."""
    linear = isinstance(model.get_submodule(unit.reader), nn.Linear)
    with Tap(model, unit.reader, "input") as tap:

        def keep(logits: Tensor) -> Tensor:
            seen = tap.value.float().abs()
            return seen.flatten(0, -2) if linear else seen.flatten(2).mean(2)

        return apply(model, domain.train, spec, keep=keep, precision=precision).mean(0)


@torch.no_grad()
def put_out(model: nn.Module, unit: Unit, channels: Tensor) -> None:
    """Make ``channels`` of a unit zero: filters, and scale and shift of the norm behind them."""
    for name in filter(None, (unit.layer, unit.norm)):
        for tensor in model.get_submodule(name).parameters(recurse=False):
            tensor[channels] = 0
