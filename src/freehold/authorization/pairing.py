"""What the methods that see both domains share: batches of each, one joint pass, choice on validation."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from freehold.authorization.neighbours import checked, neighbours
from freehold.data.batches import Augment, Batch, Batches, denormalise, fit_images, normalise
from freehold.data.domain import Domain, Domains, InputSpec, Split
from freehold.metrics.accuracy import share_correct
from freehold.protection import Protection
from freehold.seeds import derive, generator
from freehold.training import History, Loop, Objective, Trainer, Validation

VALIDATION_IMAGES = 1000  # a domain; enough to tell half a point at 97 %, and a small share of the time


def authorized(domains: Domains) -> Domain:
    """The authorized domain, which ``problems()`` made sure of."""
    assert domains.authorized is not None
    return domains.authorized


def streams(domains: Domains, trainer: Trainer, batch_size: int, *, shift: int = 0) -> dict[str, Batches]:
    """Endless batches ``"source"`` and ``"target"`` of ``batch_size`` images each, randomly translated.

    Several unauthorized domains are shuffled into one target, each in proportion to its size; without
    any there is no stream ``"target"``.
    """
    splits = {"source": authorized(domains).train}
    if domains.unauthorized:
        splits["target"] = _together([d.train for d in domains.unauthorized], domains.input)
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
    model: nn.Module,
    domains: Domains,
    trainer: Trainer,
    *,
    tolerance: float,
    price: float,
    targets: Sequence[Split] = (),
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
        targets: what to measure the target on; the unauthorized domains' validation splits by default.
    """
    targets = targets or [d.val for d in domains.unauthorized]
    spec, precision, chance = domains.input, trainer.run.precision, 1 / domains.num_classes

    def accuracy(split: Split) -> float:
        return share_correct(model, split, spec, limit=VALIDATION_IMAGES, precision=precision)

    before = accuracy(authorized(domains).val)

    def validate() -> Validation:
        source = accuracy(authorized(domains).val)
        target = math.fsum(map(accuracy, targets)) / len(targets)
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

    target: Literal["given", "neighbours"] = Field(
        "given",
        description="what to lose: the unauthorized domains, or other looks of the source, which needs none",
    )

    @property
    def needs_unauthorized(self) -> bool:
        """Not where the source's neighbours take the target's place."""
        return self.target == "given"

    def _retrain(self, model: nn.Module, objective: Objective, domains: Domains, trainer: Trainer) -> History:
        """Minimise ``objective``; of ten validated states the one best for the owner is kept."""
        looks = Looks(model, domains.input, trainer) if self.target == "neighbours" else None
        return trainer.fit(
            model,
            looks.beside(objective) if looks else objective,
            streams(domains, trainer, self.batch_size, shift=self.shift),
            Loop(
                steps=self.steps,
                lr=self.lr,
                schedule="cosine",
                final=0.02,
                evaluate_every=math.ceil(self.steps / 10),
            ),
            name=self.name,
            validate=selection(
                model,
                domains,
                trainer,
                tolerance=0.0,
                price=1.0,
                targets=[looks.restyled(authorized(domains).val)] if looks else (),
            ),
        )


class Looks:
    """Real images in other looks, as far as the unprotected model still sees their class in them.

    Args:
        model: about to be trained; a copy of it as it is now does the checking.
        spec: what images are normalised with.
        trainer: gives precision and seed.
    """

    def __init__(self, model: nn.Module, spec: InputSpec, trainer: Trainer) -> None:
        self.teacher = copy.deepcopy(model).eval().requires_grad_(False)
        self.spec, self.trainer = spec, trainer
        self._stream, self._rank = torch.Generator(), trainer.accelerator.process_index

    def beside(self, objective: Objective) -> Objective:
        """``objective`` with this step's looks of ``"source"`` as its ``"target"``."""

        def with_looks(forward: nn.Module, batches: Mapping[str, Batch], step: int) -> Mapping[str, Tensor]:
            source = batches["source"]
            images, labels = self._draw(source.images, source.labels, step)
            return objective(forward, {**batches, "target": Batch(images, labels, source.indices)}, step)

        return with_looks

    def restyled(self, split: Split) -> Split:
        """As many images of ``split`` as validation looks at, each in one look, for good."""
        images = fit_images(split.images[:VALIDATION_IMAGES], self.spec).to(self.trainer.device)
        order = torch.randperm(len(images), generator=generator(self.trainer.run.seed, "looks"))
        labels = split.labels[: len(images)][order].to(self.trainer.device)
        styled, labels = self._draw(normalise(images[order.to(images.device)], self.spec), labels, -1)
        return Split(denormalise(styled, self.spec).cpu(), labels.cpu())

    def _draw(self, images: Tensor, labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        self._stream.manual_seed(derive(self.trainer.run.seed, "neighbours", self._rank, step))
        return checked(self._ask, neighbours(images, self.spec, self._stream), labels)

    @torch.no_grad()
    def _ask(self, images: Tensor) -> Tensor:
        with self.trainer.accelerator.autocast():
            logits: Tensor = self.teacher(images)
        return logits


def _together(splits: list[Split], spec: InputSpec) -> Split:
    if len(splits) == 1:
        return splits[0]
    images = torch.cat([fit_images(s.images, spec) for s in splits])
    return Split(images, torch.cat([s.labels for s in splits]))
