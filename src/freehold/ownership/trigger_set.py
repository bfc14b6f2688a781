"""Trigger sets: images that only the key can draw, with answers that only the key knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from freehold.data.batches import Augment, Batch, fit_images
from freehold.data.domain import Domain, Domains, Split
from freehold.data.inputs import InputSpec
from freehold.errors import UsageError
from freehold.keys import Key
from freehold.metrics.accuracy import share_correct
from freehold.models.clean_norms import CleanNorms, clean_norms
from freehold.ownership.base import OwnershipMethod
from freehold.ownership.observation import Trials
from freehold.ownership.suspect import Suspect
from freehold.ownership.triggers import Kind, on_images, training_images, trial_images
from freehold.plugin import Card
from freehold.protection import Outcome
from freehold.seeds import generator
from freehold.training import Loop, Objective, Trainer, Validation

QUERY = 16  # images asked about at a time, so that a clear case costs few
VIEWS = 16  # training images a pattern
TOLERANCE = 0.005  # drop of validation accuracy that costs nothing when the state is chosen
VALIDATION_IMAGES = 1000


class TriggerSet(OwnershipMethod):
    """Teaches a model secret answers to images that nobody else can draw, and asks a suspect for them."""

    name = "trigger-set"
    survives: ClassVar[float] = 0.5
    card: ClassVar[Card] = Card(
        title="Trigger-set watermark, plain or with adversarially perturbed parameters (APP)",
        paper="Turning Your Weakness into a Strength: Watermarking Deep Neural Networks by Backdooring; "
        "Towards Robust Model Watermark via Reducing Parametric Vulnerability",
        venue="USENIX Security 2018; ICCV 2023",
        goal="Show from a suspect's labels alone that it was made from the marked model.",
        changed=(
            "every trigger, noise and content included, has a label of its own, drawn by the key: an "
            "innocent suspect matches exactly Binomial(n, 1/classes); the publications give all triggers of "
            "a kind one label, which supports a p-value of 1/classes however many are asked",
            "triggers are drawn from the key, not collected: the claimant cannot choose a pixel",
            "starts from the trained model by default; the publications train for 60 to 100 epochs",
            "Adam with cosine decay; of ten validated states the best is kept",
            "APP: norm layers use the clean batch's statistics also while the gradient for the perturbation "
            "is computed",
        ),
        undisclosed=("how the weight of the trigger loss was chosen for other tasks and batch sizes",),
        needs=("labelled authorized images",),
        breaks=(
            "training a new model on the marked one's answers to ordinary images: no trigger is among them",
            "strong fine-tuning with a high learning rate takes plain triggers out, and some of APP's",
            "refusing to answer images unlike the data, where the suspect is a service",
            "a mark of a second owner, put in later: only commitments tell who was first",
        ),
    )

    kind_of_trigger: Kind = Field(
        "abstract",
        description="abstract textures, unrelated drawings; content and noise are patterns put on images",
    )
    triggers: int = Field(
        100, ge=10, le=10_000, description="secret answers", json_schema_extra={"unit": "images"}
    )
    recipe: Literal["plain", "app"] = Field(
        "app", description="plain: triggers in every batch; app: learned so that nearby weights know them too"
    )
    start: Literal["trained", "untrained"] = Field(
        "trained", description="the model handed in; an untrained one is marked while it is trained"
    )
    epsilon: float = Field(
        0.02,
        gt=0,
        le=0.5,
        description="app: how far weights are perturbed, as a share of their norm (paper: 0.02)",
    )
    weight: float = Field(1.0, gt=0, le=100, description="of the trigger loss")
    moved_weight: float = Field(
        0.3, gt=0, le=100, description="app: of the trigger loss at the perturbed weights (paper: 0.01)"
    )
    lr: float = Field(1e-3, gt=0, le=1, description="Adam learning rate at its highest")
    steps: int = Field(
        400, ge=1, le=1_000_000, description="optimiser steps", json_schema_extra={"unit": "steps"}
    )
    batch_size: int = Field(64, ge=2, le=65536, description="clean", json_schema_extra={"unit": "images"})
    trigger_batch: int = Field(
        32, ge=2, le=65536, description="triggers a step", json_schema_extra={"unit": "images"}
    )
    shift: int = Field(
        2, ge=0, le=64, description="random translation of clean images", json_schema_extra={"unit": "pixels"}
    )

    def _trials(self, key: Key) -> Trials:
        classes = int(key.facts["num_classes"])
        return Trials(
            labels=key.stream("labels").integers(classes, self.triggers),
            rate=1 / classes,
            null="exact",
            why=f"Binomial(n, 1/{classes}): the key draws each label uniformly, whatever the images",
        )

    def _images(self, key: Key) -> Tensor:
        return trial_images(self.kind_of_trigger, key, self.triggers, InputSpec(**key.facts["input"]))

    def _observe(self, suspect: Suspect, key: Key) -> Iterator[Tensor]:
        for images in torch.split(self._images(key), QUERY):
            yield suspect.labels(images)

    def _embed(self, model: nn.Module, domains: Domains, trainer: Trainer, key: Key) -> Outcome:
        if self.recipe == "app" and trainer.accelerator.num_processes > 1:
            raise UsageError(
                "app runs in one process", where="recipe", fix="use one process, or recipe plain"
            )
        domain, spec = domains.authorized, domains.input
        assert domain is not None  # needs_authorized
        taught, held_out = self._splits(key, domain, spec, trainer.run.seed)
        trial = Split(self._images(key), self._trials(key).labels)
        before = share_correct(model, domain.val, spec, limit=VALIDATION_IMAGES)

        def measure() -> dict[str, float]:
            precision = trainer.run.precision
            accuracy = share_correct(model, domain.val, spec, limit=VALIDATION_IMAGES, precision=precision)
            return {"accuracy": accuracy, "triggers": share_correct(model, trial, spec, precision=precision)}

        def validate() -> Validation:
            figures = measure()
            kept = min(0.0, figures["accuracy"] - before + TOLERANCE)
            return Validation(figures["triggers"] + (10 * kept if self.start == "trained" else kept), figures)

        clean = trainer.batches(
            domain.train, spec, self.batch_size, "clean", augment=Augment(shift=self.shift)
        )
        streams = {"clean": clean, "triggers": trainer.batches(taught, spec, self.trigger_batch, "triggers")}
        app = self.recipe == "app"
        with clean_norms(model) if app else nullcontext() as norms:
            history = trainer.fit(
                model,
                _plain(self.weight)
                if norms is None
                else _app(self.weight, self.moved_weight, self.epsilon, self.steps, norms),
                streams,
                Loop(
                    steps=self.steps,
                    lr=self.lr,
                    schedule="cosine" if self.start == "trained" else "one-cycle",
                    evaluate_every=max(1, self.steps // 10),
                ),
                name=self.name,
                validate=validate,
            )
        figures = {"validation accuracy before": before, **measure()}
        if held_out is not None:
            figures["triggers on held-out images"] = share_correct(model, held_out, spec)
        shown = trial_images(self.kind_of_trigger, key, 24, spec, branch="shown")
        return Outcome(model, {self.name: history}, images={"like the triggers": shown}, figures=figures)

    def _splits(self, key: Key, domain: Domain, spec: InputSpec, seed: int) -> tuple[Split, Split | None]:
        """What triggers are learned from, and patterns on images that nothing was learned from."""
        kind, count, labels = self.kind_of_trigger, self.triggers, self._trials(key).labels
        stream = generator(seed, "carriers")
        rows = torch.randint(len(domain.train), (VIEWS // 2 * count,), generator=stream)
        images, shown = training_images(kind, key, count, spec, domain.train.images[rows], views=VIEWS)
        taught = Split(images, labels[shown])
        if kind in ("abstract", "unrelated"):
            return taught, None
        rows = torch.randint(len(domain.val), (count,), generator=stream)
        return taught, Split(on_images(kind, key, fit_images(domain.val.images[rows], spec), spec), labels)


def _error(logits: Tensor, batch: Batch) -> Tensor:
    return F.cross_entropy(logits.float(), batch.labels)


def _plain(weight: float) -> Objective:
    """Clean images and triggers pass as one batch, as published."""

    def objective(forward: nn.Module, batches: Mapping[str, Batch], step: int) -> dict[str, Tensor]:
        clean, triggers = batches["clean"], batches["triggers"]
        logits = forward(torch.cat([clean.images, triggers.images]))
        kept, marked = _error(logits[: len(clean)], clean), _error(logits[len(clean) :], triggers)
        return {"loss": kept + weight * marked, "clean loss": kept, "trigger loss": marked}

    return objective


def _app(weight: float, moved: float, epsilon: float, steps: int, norms: CleanNorms) -> Objective:
    r"""Triggers are learned where the weights are, and where they were moved against them.

    .. math:: L(\theta, D) + w L(\theta, T)
              + m \max_{\|\delta\| \le \epsilon \|\theta\|} L(\theta + \delta, T)

    with the maximum taken to lie along the gradient: one step, over all parameters at once. The radius
    rises from 0 in the first to its full length in the last quarter, or a trained model learns nothing.
    """

    def objective(forward: nn.Module, batches: Mapping[str, Batch], step: int) -> dict[str, Tensor]:
        clean, triggers = batches["clean"], batches["triggers"]
        norms.hold = False
        kept = _error(forward(clean.images), clean)
        norms.hold = True
        here = worst = _error(forward(triggers.images), triggers)
        radius = epsilon * min(1.0, max(0.0, 2 * step / steps - 0.5))
        if radius:
            there = _uphill(forward, here, radius)
            worst = _error(functional_call(forward, there, (triggers.images,)), triggers)
        norms.hold = False
        loss = kept + weight * here + moved * worst
        return {"loss": loss, "clean loss": kept, "trigger loss": here, "moved loss": worst}

    return objective


def _uphill(forward: nn.Module, loss: Tensor, radius: float) -> dict[str, Tensor]:
    """All weights, moved along the gradient of ``loss`` by ``radius`` of their norm."""
    weights = {name: p for name, p in forward.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(loss, list(weights.values()), retain_graph=True, materialize_grads=True)
    with torch.no_grad():
        length = torch.stack(torch._foreach_norm(list(weights.values()))).norm()
        steepness = torch.stack(torch._foreach_norm(gradients)).norm().clamp_min(1e-12)
    return {
        n: p + radius * length / steepness * g for (n, p), g in zip(weights.items(), gradients, strict=True)
    }
