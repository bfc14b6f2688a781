"""MAP: mask pruning of a frozen model (Peng et al., CVPR 2024), with and without data at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from freehold.authorization import map_card
from freehold.authorization.bank import bank
from freehold.authorization.figures import figure_spec
from freehold.authorization.masking import learn_mask
from freehold.authorization.matching import statistics_layers
from freehold.authorization.pairing import authorized, joint_logits, selection, streams
from freehold.authorization.surrogate import (
    TEMPERATURE,
    Guesses,
    nearest_gap,
    noisy_disagreement,
    pseudo_labelled,
    recognised,
    surrogate_problems,
)
from freehold.data.batches import Augment, Batch
from freehold.data.domain import Domains
from freehold.errors import ModelError, UsageError
from freehold.metrics.accuracy import apply
from freehold.models.anatomy import Tap, dry_run, find_head, maskable_weights
from freehold.plugin import Card, Problem
from freehold.protection import Outcome, Protection
from freehold.training import History, Objective, Stream, Trainer, Validation
from freehold.training.losses import bounded_divergence, distillation

DRIFT = 0.5  # share of the pooled features' relative error in the consistency term
FEATURES = 4.0  # the same for the features of all layers, without source data
# A model that sees its classes in most flat figures counts these to its own domain: losing them costs the
# source and closes nothing else. Bare looks then stand for the target, at a lower weight.
FAMILIAR, LOOKS = 0.75, 0.15
# What a variant takes where a field is not given. Without source data the mask learns from what is made
# up, so it learns less long; made-up figures resist more than a real target does.
DEFAULTS: dict[str, dict[str, Any]] = {
    "source-available": {},
    "source-free": {"steps": 200, "target_weight": 0.18, "bound": 2.5},
    "data-free": {"steps": 200, "target_weight": 0.25, "bound": 3.0},
}


class MAP(Protection):
    """Learns which weights to cut; the weights that remain are byte for byte the owner's."""

    name = "map"
    kind = "authorization"
    card: ClassVar[Card] = map_card.CARD

    variant: Literal["source-available", "source-free", "data-free"] = Field(
        "source-available",
        description="which data the owner has: both domains, only unlabelled target images, or none",
    )
    steps: int = Field(
        800,
        ge=1,
        le=1_000_000,
        description="optimiser steps (200 without source data)",
        json_schema_extra={"unit": "steps"},
    )
    lr: float = Field(3e-4, gt=0, le=0.1, description="step size of the scores, cosine to a twentieth")
    batch_size: int = Field(48, ge=2, le=65536, description="a domain", json_schema_extra={"unit": "images"})
    target_weight: float = Field(
        0.4, gt=0, le=100, description="lambda: weight of the target term (source-free 0.18, data-free 0.25)"
    )
    bound: float = Field(
        3.0,
        gt=0,
        le=100,
        description="target loss a sample gives at most (source-free 2.5)",
        json_schema_extra={"unit": "nats"},
    )
    consistency: float = Field(
        1.0,
        ge=0,
        le=100,
        description="weight of staying like the unprotected model on the source; 0 for near domains",
    )
    floor: float = Field(
        0.3, ge=0, le=100, description="optimiser: share of the mean denominator added to each; 0 is Adam"
    )
    shift: int = Field(
        2, ge=0, le=64, description="random translation of both batches", json_schema_extra={"unit": "pixels"}
    )
    exclude: tuple[str, ...] = Field((), description="patterns of weights that are never cut, e.g. head*")
    synthesis_steps: int = Field(
        250,
        ge=1,
        le=1_000_000,
        description="without source data: steps of each generator of synthetic images",
        json_schema_extra={"unit": "steps"},
    )
    synthetic: int = Field(
        4000,
        ge=2,
        le=1_000_000,
        description="without source data: images that each generator makes",
        json_schema_extra={"unit": "images"},
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, fields: Any) -> Any:
        """What the variant takes where nothing is given."""
        if not isinstance(fields, dict):
            return fields
        return DEFAULTS.get(str(fields.get("variant")), {}) | fields

    @property
    def needs_authorized(self) -> bool:
        """Only the source-available variant."""
        return self.variant == "source-available"

    @property
    def needs_unauthorized(self) -> bool:
        """All but the data-free variant."""
        return self.variant != "data-free"

    def _problems(self, model: nn.Module, domains: Domains) -> list[Problem]:
        try:
            if not maskable_weights(model, self.exclude):
                return [Problem(where="exclude", what="leaves no weight to cut", fix="exclude fewer layers")]
            find_head(model, domains.input.example())
        except (ModelError, UsageError) as error:
            return [Problem(where=error.where or "model", what=error.what, fix=error.fix)]
        return [] if self.needs_authorized else surrogate_problems(model, domains, self.batch_size)

    def _protect(self, model: nn.Module, domains: Domains, trainer: Trainer) -> Outcome:
        learn = self._with_source if self.needs_authorized else self._without_source
        return learn(model, domains, trainer)

    def _with_source(self, model: nn.Module, domains: Domains, trainer: Trainer) -> Outcome:
        head = find_head(model, domains.input.example())
        teacher = self._teacher(model, head, domains, trainer.run.precision)
        validate = selection(model, domains, trainer, tolerance=0.003, price=8.0)
        given = streams(domains, trainer, self.batch_size, shift=self.shift)
        with Tap(model, head, "input") as tap:

            def objective(forward: nn.Module, batches: Mapping[str, Batch], step: int) -> dict[str, Tensor]:
                source, target = joint_logits(forward, batches)
                features = tap.value[: len(source)].flatten(1)
                rows = batches["source"].indices
                expected = None if teacher is None else teacher.index_select(0, rows)
                return self._loss(source, features, expected, target, batches)

            mask, history = self._learn(model, objective, given, trainer, validate)
        return Outcome(model, {self.name: history}, mask)

    def _without_source(self, model: nn.Module, domains: Domains, trainer: Trainer) -> Outcome:
        spec, classes = domains.input, dry_run(model, domains.input.example()).shape[1]
        recipe = {"num_classes": classes, "steps": self.synthesis_steps, "images": self.synthetic}
        source, painting = bank("source", model, spec, trainer, **recipe)
        splits, notes, histories = {"source": source}, [map_card.UNKNOWN], painting
        shown = {"synthetic source": source.images[:24]}
        weight = self.target_weight
        specs = {"source": spec, "target": spec, "figures": figure_spec(spec)}
        if self.needs_unauthorized:
            target = pseudo_labelled(model, domains, trainer, self.steps * self.batch_size)
            gap = nearest_gap(model, target, spec)
            if gap is not None and gap < map_card.NEAR:
                notes.insert(0, map_card.TOO_NEAR.format(gap=gap))
                weight *= map_card.NEARER
            splits["target"] = target
        else:
            figures, drawing = bank("figures", model, spec, trainer, **recipe)
            histories |= drawing
            shown["figures"] = figures.images[:24]
            if recognised(model, figures, spec, trainer.run.seed) < FAMILIAR:
                splits["figures"] = figures
            else:
                weight *= LOOKS
                notes.append(map_card.FAMILIAR)
        if not statistics_layers(model):
            notes.append(map_card.NO_STATISTICS)
        augment = Augment(shift=self.shift)
        given = {
            name: trainer.batches(split, specs[name], self.batch_size, name, augment=augment)
            for name, split in splits.items()
        }
        layers = [name.rpartition(".")[0] for name in maskable_weights(model, self.exclude)]
        # If one class swallows the whole target, one image in K is right and gives nothing.
        enough = 0.94 * (1 - 1 / classes) * self.bound
        with Guesses(model, layers, spec, trainer) as guesses:

            def objective(forward: nn.Module, batches: Mapping[str, Batch], step: int) -> dict[str, Tensor]:
                astray, drift, lost = guesses.compare(forward, batches, step, self.bound)
                missing = (enough - lost).clamp_min(0)
                push = weight * missing * (1 + missing)
                loss = push + self.consistency * (astray + FEATURES * drift)
                return {"loss": loss, "consistency": astray, "feature drift": drift, "target loss": lost}

            mask, history = self._learn(model, objective, given, trainer)
            share = noisy_disagreement(guesses.teacher, model, source, spec, trainer.run.seed)
        notes.insert(
            0, (map_card.BRITTLE if share > map_card.BREAKS else map_card.STEADY).format(share=share)
        )
        foretold = {"disagreement under noise": share}
        return Outcome(model, histories | {self.name: history}, mask, shown, tuple(notes), foretold)

    def _learn(
        self,
        model: nn.Module,
        objective: Objective,
        given: Mapping[str, Stream],
        trainer: Trainer,
        validate: Callable[[], Validation] | None = None,
    ) -> tuple[dict[str, Tensor], History]:
        names = list(maskable_weights(model, self.exclude))
        return learn_mask(
            model,
            objective,
            given,
            trainer,
            names=names,
            steps=self.steps,
            lr=self.lr,
            floor=self.floor,
            validate=validate,
        )

    def _loss(
        self,
        source: Tensor,
        features: Tensor,
        expected: Tensor | None,
        target: Tensor,
        batches: Mapping[str, Batch],
    ) -> dict[str, Tensor]:
        """Be right on the source, stay with the unprotected model there, be wrong on the target."""
        truth = F.cross_entropy(source, batches["source"].labels)
        lost = bounded_divergence(target, batches["target"].labels, self.bound)
        terms = {"loss": truth - self.target_weight * lost, "source loss": truth, "target loss": lost}
        if expected is None:
            return terms
        logits, pooled = expected.tensor_split([source.shape[1]], 1)
        distance = TEMPERATURE**2 * distillation(source / TEMPERATURE, logits / TEMPERATURE)
        distance = distance + DRIFT * F.mse_loss(features.float(), pooled) / pooled.square().mean()
        return terms | {"loss": terms["loss"] + self.consistency * distance, "consistency": distance}

    def _teacher(self, model: nn.Module, head: str, domains: Domains, precision: str) -> Tensor | None:
        """Logits and pooled features ``(N, K + D)`` of the unprotected model on the source images, once."""
        if self.consistency == 0:
            return None
        with Tap(model, head, "input") as tap:

            def keep(logits: Tensor) -> Tensor:
                return torch.cat([logits.float(), tap.value.flatten(1).float()], 1)

            return apply(
                model, authorized(domains).train, domains.input, keep=keep, precision=precision
            ).clone()
