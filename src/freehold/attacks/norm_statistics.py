"""Norm statistics re-estimated: a model sees closed images as its batch norms expect them."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import nn

from freehold.attacks.base import Attack, Taken, leaked
from freehold.data.domain import Domain, InputSpec
from freehold.models.probe import BatchNorm
from freehold.plugin import Card, Problem
from freehold.training import Trainer


class NormStatistics(Attack):
    """Puts the running statistics of unlabelled images into every batch norm; no weight changes."""

    name = "norm-statistics"
    card: ClassVar[Card] = Card(
        title="Re-estimated norm statistics (AdaBN)",
        paper="Revisiting Batch Normalization For Practical Domain Adaptation",
        venue="ICLR 2017 workshop",
        goal="Undo what a protection does by the distance of a closed domain from the running statistics.",
        changed=("a cumulative mean over the images, in one pass",),
        undisclosed=("how many images are enough: a tenth by default",),
        needs=("weights", "unlabelled images"),
        breaks=("networks without batch norm", "protections that sit in the weights"),
    )
    prey = "unauthorized"
    stronger: ClassVar[dict[str, Any]] = {"share": 1.0}

    share: float = Field(0.1, gt=0, le=1, description="of the training images that are passed through")
    batch_size: int = Field(64, ge=8, le=65536, json_schema_extra={"unit": "images"})

    def _problems(self, model: nn.Module, domain: Domain, spec: InputSpec) -> list[Problem]:
        if _norms(model):
            return []
        what = "has no batch norm that keeps statistics"
        return [Problem(where="model", what=what, fix="attack adapt or fine-tune")]

    @torch.no_grad()
    def _run(self, model: nn.Module, domain: Domain, spec: InputSpec, trainer: Trainer) -> Taken:
        images = leaked(domain.train, self.share, trainer.run.seed)
        # Whole batches only: each weighs the same in a cumulative mean.
        stream = trainer.batches(images, spec, self.batch_size, "statistics")
        norms = _norms(model)
        model.eval()
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.train()
            norm.momentum = None
        for step in range(stream.batches_per_epoch):
            model(stream.batch(step).images)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        return Taken(model.eval(), images=len(images))


def _norms(model: nn.Module) -> list[BatchNorm]:
    return [m for m in model.modules() if isinstance(m, BatchNorm) and m.track_running_stats]
