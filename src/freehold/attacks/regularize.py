"""Regularization: weights are pressed towards zero until only the task is left, then trained back."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from freehold.attacks.base import Attack, Taken
from freehold.data.batches import Augment, Batch
from freehold.data.domain import Domain, InputSpec
from freehold.metrics.accuracy import share_correct
from freehold.models.anatomy import maskable_weights
from freehold.plugin import Card
from freehold.training import Loop, Trainer, Validation

USUAL = 5e-4  # weight decay of the second part


class Regularize(Attack):
    """Fine-tunes under a large weight decay, then under an ordinary one until accuracy stops rising."""

    name = "regularize"
    card: ClassVar[Card] = Card(
        title="Regularization",
        paper="SoK: How Robust is Image Classification Deep Neural Network Watermarking?",
        venue="IEEE S&P 2022",
        goal="Shrink every weight that the task does not hold up, then repair the task.",
        changed=(
            "both parts are one fit with one optimiser; decay is on convolution and linear weights only",
        ),
        undisclosed=("learning rate, batch size and augmentation are ours",),
        needs=("labelled images",),
        breaks=("decay so strong that the task cannot be trained back from the attacker's images",),
    )
    stronger: ClassVar[dict[str, Any]] = {"decay": 0.25, "pressed": 3.0}

    decay: float = Field(0.1, gt=0, le=10, description="weight decay of the first part")
    pressed: float = Field(5.0, gt=0, le=1000, description="epochs of the first part")
    epochs: float = Field(50.0, gt=0, le=1000, description="at most, of the second part")
    lr: float = Field(0.01, gt=0, le=10, description="SGD with momentum 0.9")
    batch_size: int = Field(64, ge=2, le=65536, json_schema_extra={"unit": "images"})
    shift: int = Field(2, ge=0, le=64, description="random translation", json_schema_extra={"unit": "pixels"})

    def _run(self, model: nn.Module, domain: Domain, spec: InputSpec, trainer: Trainer) -> Taken:
        stream = trainer.batches(
            domain.train, spec, self.batch_size, "attack", augment=Augment(shift=self.shift)
        )
        epoch = len(domain.train) / self.batch_size
        turn = max(1, round(self.pressed * epoch))
        weights = list(maskable_weights(model).values())
        seen = 0
        last: list[nn.Module] = []

        def objective(forward: nn.Module, batches: Mapping[str, Batch], step: int) -> dict[str, Tensor]:
            nonlocal seen
            seen = step
            batch = batches["train"]
            truth = F.cross_entropy(forward(batch.images).float(), batch.labels)
            size = sum((w.square().sum() for w in weights), truth.new_zeros(()))
            return {"loss": truth + (self.decay if step < turn else USUAL) / 2 * size, "truth": truth}

        def validate() -> Validation:
            accuracy = share_correct(model, domain.val, spec, precision=trainer.run.precision)
            # While weights are pressed no state counts: the first would be the best.
            return Validation(accuracy - (seen < turn), {"accuracy": accuracy})

        loop = Loop(
            steps=turn + max(1, round(self.epochs * epoch)),
            optimizer="sgd",
            lr=self.lr,
            evaluate_every=max(1, round(epoch)),
            patience=5 + max(1, round(self.pressed)),
        )
        history = trainer.fit(
            model,
            objective,
            {"train": stream},
            loop,
            name=self.name,
            validate=validate,
            finish=lambda: last.append(copy.deepcopy(model)),
        )
        return Taken(model, last[0], images=len(domain.train), history=history)
