"""What the methods that see both domains share: batches of each, one joint pass, choice on validation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from freehold.data.batches import Augment, Batch, Batches, fit_images
from freehold.data.domain import Domain, Domains, InputSpec, Split
from freehold.metrics.accuracy import share_correct
from freehold.protection import Protection
from freehold.training import History, Loop, Objective, Trainer, Validation

VALIDATION_IMAGES = 1000  # a domain; enough to tell half a point at 97 %, and a small share of the time


def authorized(domains: Domains) -> Domain:
    """The authorized domain, which ``problems()`` made sure of."""
    assert domains.authorized is not None
    return domains.authorized


def streams(domains: Domains, trainer: Trainer, batch_size: int, *, shift: int = 0) -> dict[str, Batches]:
    """Endless batches ``"source"`` and ``"target"`` of ``batch_size`` images each, randomly translated.

    Several unauthorized domains are shuffled into one target, each in proportion to its size.
    """
    target = _together([d.train for d in domains.unauthorized], domains.input)
    splits = {"source": authorized(domains).train, "target": target}
    augment = Augment(shift=shift) if shift else None
    return {
        name: trainer.batches(split, domains.input, batch_size, name, augment=augment)
        for name, split in splits.items()
    }


def joint_logits(forward: nn.Module, batches: Mapping[str, Batch]) -> tuple[Tensor, Tensor]:
    """Logits ``(B, K)`` of the source and of the target batch from one pass over both.

    Norm layers in training mode then see the statistics of the mixture, as in the benchmark code of
    the field; in evaluation mode the pass equals two separate ones.
    """
    source, target = batches["source"], batches["target"]
    logits = forward(torch.cat([source.images, target.images]))
    return logits[: len(source)], logits[len(source) :]


def selection(
    model: nn.Module, domains: Domains, trainer: Trainer, *, tolerance: float, price: float
) -> Callable[[], Validation]:
    """Scores the state of ``model`` on validation images: low target accuracy at a bearable source drop.

    The score is ``-(mean target accuracy, not below chance) - price * max(0, source drop - tolerance)``:
    being worse than guessing is worth nothing, since it tells an attacker as much as being better.

    Args:
        model: what is being trained; measured as it is now, and whenever the result is called.
        domains: whose validation splits are used, at most 1,000 images of each.
        trainer: gives the precision.
        tolerance: source drop that costs nothing, as a share.
        price: share of target accuracy that a share of source accuracy beyond it is worth.
    """
    spec, precision, chance = domains.input, trainer.run.precision, 1 / domains.num_classes

    def accuracy(domain: Domain) -> float:
        return share_correct(model, domain.val, spec, limit=VALIDATION_IMAGES, precision=precision)

    before = accuracy(authorized(domains))

    def validate() -> Validation:
        source = accuracy(authorized(domains))
        target = math.fsum(accuracy(d) for d in domains.unauthorized) / len(domains.unauthorized)
        score = -max(target, chance) - price * max(0.0, before - source - tolerance)
        return Validation(score, {"source": source, "target": target})

    return validate


class Retraining(Protection):
    """Base of the methods that train all weights against both domains; they differ in their loss."""

    lr: float = Field(
        5e-4, gt=0, le=1, description="Adam learning rate (papers: 1e-4 with 0.999 decay a step)"
    )
    steps: int = Field(
        1000, ge=1, le=1_000_000, description="optimiser steps", json_schema_extra={"unit": "steps"}
    )
    batch_size: int = Field(32, ge=2, le=65536, description="a domain", json_schema_extra={"unit": "images"})
    shift: int = Field(
        2, ge=0, le=64, description="random translation of both batches", json_schema_extra={"unit": "pixels"}
    )

    def _retrain(self, model: nn.Module, objective: Objective, domains: Domains, trainer: Trainer) -> History:
        """Minimise ``objective``; of ten validated states the one best for the owner is kept."""
        return trainer.fit(
            model,
            objective,
            streams(domains, trainer, self.batch_size, shift=self.shift),
            Loop(
                steps=self.steps,
                lr=self.lr,
                schedule="cosine",
                final=0.02,
                evaluate_every=max(1, self.steps // 10),
            ),
            name=self.name,
            validate=selection(model, domains, trainer, tolerance=0.0, price=1.0),
        )


def _together(splits: list[Split], spec: InputSpec) -> Split:
    if len(splits) == 1:
        return splits[0]
    images = torch.cat([fit_images(s.images, spec) for s in splits])
    return Split(images, torch.cat([s.labels for s in splits]))
