"""Ordinary supervised training, for source models and references."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from freehold.data.batches import Augment, Batch
from freehold.data.domain import Domain, InputSpec
from freehold.metrics.accuracy import share_correct
from freehold.models.anatomy import find_head
from freehold.settings import Settings
from freehold.training.history import History, Validation
from freehold.training.schedule import Loop
from freehold.training.trainer import Trainer


class Supervised(Settings):
    """How a classifier is trained. Give ``epochs`` or ``steps``; ten epochs by default."""

    epochs: float | None = Field(None, gt=0, description="passes over the training images")
    steps: int | None = Field(None, ge=1, description="optimiser steps, instead of epochs")
    batch_size: int = Field(64, ge=2, le=65536, description="images a step, over all processes")
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = Field(3e-3, gt=0, le=10)
    weight_decay: float = Field(5e-4, ge=0, le=1)
    schedule: Literal["one-cycle", "cosine", "constant"] = "one-cycle"
    clip: float | None = Field(None, gt=0, description="largest gradient norm")
    shift: int = Field(2, ge=0, le=64, description="random translation by up to this many pixels")
    flip: bool = Field(False, description="random mirroring; wrong for digits and text")
    head_only: bool = Field(False, description="train the last layer on a frozen trunk, a linear probe")
    evaluate_every: int = Field(0, ge=0, description="steps between validations; 0 validates at the end")
    patience: int | None = Field(None, ge=1, description="validations without improvement before stopping")

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give epochs or steps, not both")
        if self.patience is not None and not self.evaluate_every:
            raise ValueError("patience needs evaluate_every")
        return self

    def loop(self, images: int) -> Loop:
        """The loop for a training split of ``images``."""
        steps = self.steps or max(1, round((self.epochs or 10) * images / self.batch_size))
        return Loop(
            steps=steps,
            optimizer=self.optimizer,
            lr=self.lr,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            clip=self.clip,
            evaluate_every=self.evaluate_every,
            patience=self.patience,
        )


def cross_entropy(forward: nn.Module, batches: Mapping[str, Batch], step: int) -> dict[str, Tensor]:
    """The objective of a classifier on the stream ``"train"``."""
    batch = batches["train"]
    return {"loss": F.cross_entropy(forward(batch.images).float(), batch.labels)}


def train_classifier(
    model: nn.Module,
    domain: Domain,
    spec: InputSpec,
    settings: Supervised,
    trainer: Trainer,
    *,
    name: str = "train",
) -> History:
    """Train ``model`` in place on ``domain.train``; the state best on ``domain.val`` is kept.

    Raises:
        TrainingError: the loss became NaN or infinite.
    """
    augment = Augment(shift=settings.shift, flip=settings.flip)
    streams = {"train": trainer.batches(domain.train, spec, settings.batch_size, "train", augment=augment)}

    def validate() -> Validation:
        accuracy = share_correct(model, domain.val, spec, precision=trainer.run.precision)
        return Validation(accuracy, {"accuracy": accuracy})

    loop = settings.loop(len(domain.train))
    if not settings.head_only:
        return trainer.fit(model, cross_entropy, streams, loop, name=name, validate=validate)
    head = model.get_submodule(find_head(model, spec.example()))
    model.requires_grad_(False)
    head.requires_grad_(True)
    try:
        # Evaluation mode, or the norm layers of the frozen trunk would drift.
        return trainer.fit(model, cross_entropy, streams, loop, name=name, mode="eval", validate=validate)
    finally:
        model.requires_grad_(True)
