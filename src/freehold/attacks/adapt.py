"""Source-free domain adaptation as an attack: unlabelled images of the closed domain, and the model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from freehold.attacks.base import Attack, Taken
from freehold.data.batches import Batch
from freehold.data.domain import Domain, InputSpec, Split
from freehold.metrics.accuracy import apply
from freehold.models.anatomy import Tap, find_head
from freehold.plugin import Card
from freehold.training import Loop, Trainer

NEIGHBOURS, SECOND, FAR = 5, 4, 0.1  # of NRC: neighbours, theirs, and the weight of one-sided ones


class Adapt(Attack):
    """Adapts the trunk to unlabelled images of the closed domain; the classifier stays."""

    name = "adapt"
    card: ClassVar[Card] = Card(
        title="Source-free domain adaptation: SHOT, NRC",
        paper="Do We Really Need to Access the Source Data? Source Hypothesis Transfer for Unsupervised "
        "Domain Adaptation; Exploiting the Intrinsic Neighborhood Structure for Source-free Domain "
        "Adaptation",
        venue="ICML 2020; NeurIPS 2021",
        goal="Win the closed domain back without a single label.",
        changed=(
            "the bottleneck layer and weight normalisation of the publications are left out: the model is as "
            "it was found",
            "the last state is kept: without labels there is nothing to choose on",
        ),
        undisclosed=("benchmark code switches SHOT's entropy terms off; they are on here",),
        needs=("unlabelled images of the closed domain",),
        breaks=("a model whose answers there are all of one class: its centroids carry nothing",),
    )
    prey = "unauthorized"
    stronger: ClassVar[dict[str, Any]] = {"epochs": 30.0}

    variant: Literal["SHOT", "NRC"] = Field("SHOT", description="pseudo-labels by centroid, or neighbours")
    epochs: float = Field(5.0, gt=0, le=1000, description="passes over the images")
    lr: float = Field(1e-3, gt=0, le=1, description="SGD with momentum 0.9, decaying")
    batch_size: int = Field(64, ge=8, le=65536, json_schema_extra={"unit": "images"})
    pseudo: float = Field(0.3, ge=0, le=100, description="SHOT: weight of the pseudo-labels")
    refresh: int = Field(15, ge=1, le=1000, description="SHOT: how often pseudo-labels are made anew")

    def _run(self, model: nn.Module, domain: Domain, spec: InputSpec, trainer: Trainer) -> Taken:
        head = find_head(model, spec.example())
        model.get_submodule(head).requires_grad_(False)
        blind = Split(
            domain.train.images, torch.zeros_like(domain.train.labels).index_fill_(0, torch.tensor([0]), 1)
        )
        stream = trainer.batches(blind, spec, self.batch_size, "attack")
        steps = max(1, round(self.epochs * len(blind) / self.batch_size))
        width = model.get_parameter(f"{head}.weight").shape[1]
        memory = _Memory(model, len(blind), domain.num_classes, width)
        memory.to(trainer.device)
        every = max(1, steps // self.refresh)

        def look() -> None:
            memory.fill(head, blind, spec, trainer.run.precision)

        look()
        with Tap(model, head, "input") as tap:

            def objective(forward: nn.Module, batches: Mapping[str, Batch], step: int) -> dict[str, Tensor]:
                if self.variant == "SHOT" and step and step % every == 0:
                    look()
                batch = batches["train"]
                logits = forward(batch.images).float()
                if self.variant == "NRC":
                    return memory.neighbourly(tap.value, logits, batch.indices)
                truth = F.cross_entropy(logits, memory.labels[batch.indices])
                sharp = entropy(logits.softmax(1)).mean() - entropy(logits.softmax(1).mean(0))
                return {"loss": sharp + self.pseudo * truth, "information": sharp, "pseudo-labels": truth}

            loop = Loop(
                steps=steps, optimizer="sgd", lr=self.lr, weight_decay=1e-3, schedule="cosine", final=0.1
            )
            history = trainer.fit(memory, objective, {"train": stream}, loop, name=self.name)
        return Taken(model, images=len(blind), history=history)


def entropy(probabilities: Tensor) -> Tensor:
    """Shannon entropy in nats over the last dimension."""
    return -(probabilities * probabilities.clamp_min(1e-8).log()).sum(-1)


class _Memory(nn.Module):
    """The model with what is remembered of every image: features, answers, pseudo-labels."""

    def __init__(self, model: nn.Module, images: int, classes: int, width: int) -> None:
        super().__init__()
        self.model = model
        self.features: Tensor
        self.answers: Tensor
        self.labels: Tensor
        self.register_buffer("features", torch.zeros(images, width))
        self.register_buffer("answers", torch.zeros(images, classes))
        self.register_buffer("labels", torch.zeros(images, dtype=torch.long))

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, K)``."""
        logits: Tensor = self.model(images)
        return logits

    @torch.no_grad()
    def fill(self, head: str, split: Split, spec: InputSpec, precision: str) -> None:
        """Look at every image once; pseudo-labels are the nearest of two rounds of centroids (SHOT)."""
        with Tap(self.model, head, "input") as tap:

            def keep(logits: Tensor) -> Tensor:
                return torch.cat([logits.float(), tap.value.flatten(1).float()], 1)

            seen = apply(self.model, split, spec, keep=keep, precision=precision)
        logits, features = seen.tensor_split([self.answers.shape[1]], 1)
        self.answers.copy_(logits.softmax(1))
        self.features.copy_(F.normalize(features, dim=1))
        weights = self.answers
        for _ in range(2):
            centroids = F.normalize(weights.T @ self.features, dim=1)
            likeness = self.features @ centroids.T
            # A class that nothing is put into has no centroid to be near to.
            likeness[:, weights.sum(0) == 0] = -math.inf
            self.labels.copy_(likeness.argmax(1))
            weights = F.one_hot(self.labels, self.answers.shape[1]).float()

    def neighbourly(self, features: Tensor, logits: Tensor, rows: Tensor) -> dict[str, Tensor]:
        """Agree with the nearest images' answers, less with one-sided neighbours and with theirs (NRC)."""
        answers = logits.softmax(1)
        with torch.no_grad():
            self.features[rows] = F.normalize(features.flatten(1).float(), dim=1)
            self.answers[rows] = answers
            near = _nearest(self.features[rows], self.features, NEIGHBOURS)  # (B, K)
            theirs = _nearest(self.features[near.flatten()], self.features, SECOND).view(
                len(rows), -1, SECOND
            )
            mutual = (theirs == rows[:, None, None]).any(2).float()
            weight = mutual + FAR * (1 - mutual)
            wanted = (weight[..., None] * self.answers[near]).sum(1)
            wanted = wanted + FAR * self.answers[theirs.flatten(1)].sum(1)
        agree = -(answers * wanted).sum(1).mean()
        spread = -entropy(answers.mean(0))
        return {"loss": agree + spread, "agreement": agree, "diversity": spread}


def _nearest(queries: Tensor, bank: Tensor, count: int) -> Tensor:
    """Rows of the ``count`` nearest of ``bank`` to each query by cosine, the query itself left out."""
    return (queries @ bank.T).topk(count + 1, dim=1).indices[:, 1:]
