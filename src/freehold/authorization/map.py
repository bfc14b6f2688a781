"""MAP: mask pruning of a frozen model (Peng et al., CVPR 2024), source-available variant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from freehold.authorization.pairing import authorized, joint_logits, selection, streams
from freehold.authorization.scores import ScoreAdam
from freehold.data.batches import Batch
from freehold.data.domain import Domains
from freehold.errors import ModelError, UsageError
from freehold.metrics.accuracy import apply
from freehold.models.anatomy import Tap, find_head, maskable_weights
from freehold.models.layers import fuse_masks, masked, read_masks
from freehold.plugin import Card, Problem
from freehold.protection import Outcome, Protection
from freehold.training import Loop, Trainer
from freehold.training.losses import bounded_divergence, distillation

INIT, THRESHOLD = 0.01, 0.005  # Piggyback's convention; only (INIT - THRESHOLD) / lr has an effect
BOUNDS = (-0.01, 0.02)
TEMPERATURE = 2.0  # softens both answers before they are compared
DRIFT = 0.5  # share of the pooled features' relative error in the consistency term


class MAP(Protection):
    """Learns which weights to cut; the weights that remain are byte for byte the owner's."""

    name = "map"
    kind = "authorization"
    card: ClassVar[Card] = Card(
        title="MAP, mask pruning, source-available",
        paper="MAP: MAsk-Pruning for Source-Free Model Intellectual Property Protection",
        venue="CVPR 2024",
        goal="Cut the few weights that carry a model to an unauthorized domain, and touch no other.",
        changed=(
            "the target term is cut per sample, not per batch: samples that are wrong enough stop pushing",
            "beside the labels, the source side may hold on to the unprotected model's answers (divergence "
            "at temperature 2) and pooled features, computed once on the unshifted images",
            "the optimiser's denominator has a floor: without it, our runs cut weights en masse and lost the "
            "source",
            "the kept mask is the best on validation images",
        ),
        undisclosed=(
            "the paper's mask parametrisation, loss weights and tables were not available to us: scores, "
            "threshold, straight-through gradient and all defaults are ours",
            "norm layers stay in evaluation mode: in training mode our runs protected nothing or lost the "
            "source",
        ),
        needs=("labelled source and target images", "convolution or linear layers"),
        breaks=(
            "whoever holds the original weights can put the cut ones back",
            "fine-tuning all weights on labelled target images regrows what was cut",
            "TransNTL (CVPR 2024) and source-free adaptation break NTL and CUTI; not run against MAP here",
        ),
    )

    variant: Literal["source-available"] = Field(
        "source-available", description="which data the owner has at hand"
    )
    steps: int = Field(
        800, ge=1, le=1_000_000, description="optimiser steps", json_schema_extra={"unit": "steps"}
    )
    lr: float = Field(3e-4, gt=0, le=0.1, description="step size of the scores, cosine to a twentieth")
    batch_size: int = Field(48, ge=2, le=65536, description="a domain", json_schema_extra={"unit": "images"})
    target_weight: float = Field(0.4, gt=0, le=100, description="lambda: weight of the target term")
    bound: float = Field(
        3.0,
        gt=0,
        le=100,
        description="target loss a sample gives at most",
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

    def _problems(self, model: nn.Module, domains: Domains) -> list[Problem]:
        try:
            if not maskable_weights(model, self.exclude):
                return [Problem(where="exclude", what="leaves no weight to cut", fix="exclude fewer layers")]
            find_head(model, domains.input.example())
        except (ModelError, UsageError) as error:
            return [Problem(where=error.where or "model", what=error.what, fix=error.fix)]
        return []

    def _protect(self, model: nn.Module, domains: Domains, trainer: Trainer) -> Outcome:
        head = find_head(model, domains.input.example())
        teacher = self._teacher(model, head, domains, trainer.run.precision)
        validate = selection(model, domains, trainer, tolerance=0.003, price=8.0)
        # Everything but the scores is frozen, and norm layers keep the source statistics.
        model.requires_grad_(False)
        with masked(model, list(maskable_weights(model, self.exclude)), init=INIT, threshold=THRESHOLD):
            with Tap(model, head, "input") as tap:

                def objective(
                    forward: nn.Module, batches: Mapping[str, Batch], step: int
                ) -> dict[str, Tensor]:
                    source, target = joint_logits(forward, batches)
                    features = tap.value[: len(source)].flatten(1)
                    rows = batches["source"].indices
                    expected = None if teacher is None else teacher.index_select(0, rows)
                    return self._loss(source, features, expected, target, batches)

                history = trainer.fit(
                    model,
                    objective,
                    streams(domains, trainer, self.batch_size, shift=self.shift),
                    Loop(
                        steps=self.steps,
                        lr=self.lr,
                        schedule="cosine",
                        final=0.05,
                        evaluate_every=max(1, self.steps // 16),
                    ),
                    name=self.name,
                    mode="eval",
                    validate=validate,
                    build=lambda scores: ScoreAdam(scores, self.lr, floor=self.floor, bounds=BOUNDS),
                )
            mask = read_masks(model)
            fuse_masks(model)
        return Outcome(model, {self.name: history}, mask)

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
