"""Fine-tuning attacks: the last layer or all layers, with the old classifier or a new one."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import nn

from freehold.attacks.base import Attack, Taken
from freehold.data.batches import Augment
from freehold.data.domain import Domain, InputSpec
from freehold.errors import ModelError
from freehold.metrics.accuracy import share_correct
from freehold.models.anatomy import find_head, maskable_weights
from freehold.models.zeros import held_at_zero
from freehold.plugin import Card, Problem
from freehold.seeds import global_draws
from freehold.training import Loop, Trainer, Validation
from freehold.training.classifier import cross_entropy


class FineTune(Attack):
    """Trains the stolen model further on the attacker's labelled images."""

    name = "fine-tune"
    card: ClassVar[Card] = Card(
        title="Fine-tuning: FTLL, FTAL, RTLL, RTAL",
        paper="Turning Your Weakness Into a Strength: Watermarking Deep Neural Networks by Backdooring",
        venue="USENIX Security 2018",
        goal="Train a stolen model further so that a protection or a watermark is forgotten.",
        changed=(
            "the state best on the attacker's validation images is kept, the last one beside it",
            "redrawn layers take the scale that torch gives new ones",
        ),
        undisclosed=("later benchmarks use the same four names for other lengths and learning rates",),
        needs=("labelled images of the domain that the attacker wants to use",),
        breaks=("too few images: the last layer alone overfits, all layers forget the task",),
    )
    stronger: ClassVar[dict[str, Any]] = {"lr": 0.05, "epochs": 30.0, "schedule": "halving"}

    variant: Literal["FTLL", "FTAL", "RTLL", "RTAL"] = Field(
        "FTAL", description="fine-tune or re-train (new last layer) the last layer only, or all layers"
    )
    zeros: Literal["free", "kept"] = Field("free", description="whether weights that are zero may grow")
    epochs: float = Field(20.0, gt=0, le=10_000, description="passes over the attacker's images")
    lr: float = Field(0.01, gt=0, le=10, description="SGD with momentum 0.9")
    weight_decay: float = Field(5e-4, ge=0, le=1)
    schedule: Literal["constant", "cosine", "halving"] = Field(
        "constant", description="halving: half the learning rate after each sixth of the epochs"
    )
    batch_size: int = Field(64, ge=2, le=65536, json_schema_extra={"unit": "images"})
    shift: int = Field(2, ge=0, le=64, description="random translation", json_schema_extra={"unit": "pixels"})
    flip: bool = Field(False, description="random mirroring; wrong for digits and text")

    def _problems(self, model: nn.Module, domain: Domain, spec: InputSpec) -> list[Problem]:
        try:
            find_head(model, spec.example())
        except ModelError as error:
            return [Problem(where=error.where or "model", what=error.what, fix=error.fix)]
        return []

    def _run(self, model: nn.Module, domain: Domain, spec: InputSpec, trainer: Trainer) -> Taken:
        head = model.get_submodule(find_head(model, spec.example()))
        if self.variant.startswith("RT") and isinstance(head, nn.Linear):
            with global_draws(trainer.run.seed, "new head"):
                head.reset_parameters()
        if self.variant.endswith("LL"):
            model.requires_grad_(False)
            head.requires_grad_(True)
        augment = Augment(shift=self.shift, flip=self.flip)
        stream = trainer.batches(domain.train, spec, self.batch_size, "attack", augment=augment)
        steps = max(1, round(self.epochs * len(domain.train) / self.batch_size))
        decay = 0.5 ** (6 / steps) if self.schedule == "halving" else 1.0
        last: list[nn.Module] = []

        def validate() -> Validation:
            accuracy = share_correct(model, domain.val, spec, precision=trainer.run.precision)
            return Validation(accuracy, {"accuracy": accuracy})

        loop = Loop(
            steps=steps,
            optimizer="sgd",
            lr=self.lr,
            weight_decay=self.weight_decay,
            schedule="exponential" if self.schedule == "halving" else self.schedule,
            decay=decay,
            evaluate_every=max(1, steps // 10),
        )
        live = {w: w != 0 for w in maskable_weights(model).values()} if self.zeros == "kept" else {}
        mode: Literal["train", "eval"] = "eval" if self.variant.endswith("LL") else "train"
        with held_at_zero(live):
            history = trainer.fit(
                model,
                cross_entropy,
                {"train": stream},
                loop,
                name=self.name,
                mode=mode,
                validate=validate,
                finish=lambda: last.append(copy.deepcopy(model)),
            )
        return Taken(model, last[0], images=len(domain.train), history=history)
