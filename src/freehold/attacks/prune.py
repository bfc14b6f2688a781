"""Pruning attacks: cut the smallest weights, then perhaps train on."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from freehold.attacks.base import Attack, Taken
from freehold.attacks.fine_tune import FineTune
from freehold.data.domain import Domain, InputSpec
from freehold.models.anatomy import maskable_weights
from freehold.plugin import Card
from freehold.seeds import generator
from freehold.training import Trainer


class Prune(Attack):
    """Sets a share of the weights to zero."""

    name = "prune"
    card: ClassVar[Card] = Card(
        title="Weight pruning",
        paper="Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural Networks",
        venue="RAID 2018",
        goal="Cut what the task does not need, in the hope that the watermark lives there.",
        changed=("single weights instead of channels; fine-tuning afterwards is an option",),
        undisclosed=("which layers are spared differs between toolkits: here none is",),
        needs=("weights; labelled images only if epochs is above 0",),
        breaks=("shares beyond what the task bears: accuracy falls before the mark does",),
    )
    stronger: ClassVar[dict[str, Any]] = {"share": 0.8, "epochs": 5.0}

    share: float = Field(0.5, gt=0, lt=1, description="of the weights that are set to zero")
    scope: Literal["layer", "global", "random"] = Field(
        "layer", description="the smallest of each layer, of the whole network, or any of each layer"
    )
    epochs: float = Field(0.0, ge=0, le=1000, description="of fine-tuning all layers afterwards, zeros kept")

    def _run(self, model: nn.Module, domain: Domain, spec: InputSpec, trainer: Trainer) -> Taken:
        prune(list(maskable_weights(model).values()), self.share, self.scope, trainer.run.seed)
        if not self.epochs:
            return Taken(model)
        return FineTune(zeros="kept", epochs=self.epochs)._run(model, domain, spec, trainer)


@torch.no_grad()
def prune(weights: list[nn.Parameter], share: float, scope: str, seed: int) -> None:
    """Set ``share`` of the ``weights`` to zero in place.

    Args:
        weights: of the layers.
        share: in (0, 1); each layer loses that share of its weights, or all together with ``"global"``.
        scope: ``"layer"`` and ``"global"`` take the smallest, ``"random"`` any.
        seed: of the random choice.
    """
    if scope == "global":
        threshold = _kth(torch.cat([w.abs().flatten() for w in weights]), share)
        for weight in weights:
            weight[weight.abs() <= threshold] = 0
        return
    for number, weight in enumerate(weights):
        size = weight.abs()
        if scope == "random":
            size = torch.rand(weight.shape, generator=generator(seed, "prune", number)).to(weight.device)
        weight[size <= _kth(size.flatten(), share)] = 0


def _kth(values: Tensor, share: float) -> Tensor:
    count = round(share * len(values))
    return values.kthvalue(count).values if count else values.new_tensor(-1.0)
