"""Trigger sets: images that only the key can draw, with answers that only the key knows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from freehold.data.batches import Augment, fit_images
from freehold.data.domain import Domain, Domains, Split
from freehold.data.inputs import InputSpec
from freehold.errors import UsageError
from freehold.keys import Key
from freehold.metrics.accuracy import share_correct
from freehold.models.clean_norms import CleanNorms, clean_norms
from freehold.ownership.base import OwnershipMethod
from freehold.ownership.embedding import Kept, labelled, perturbed, plain, unchanged
from freehold.ownership.habit import Habit
from freehold.ownership.observation import Trials
from freehold.ownership.suspect import ModuleSuspect, Suspect
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
        title="Trigger-set watermark: plain, or with perturbed parameters (APP)",
        paper="Turning Your Weakness into a Strength: Watermarking Deep Neural Networks by Backdooring; "
        "Towards Robust Model Watermark via Reducing Parametric Vulnerability",
        venue="USENIX Security 2018; ICCV 2023",
        goal="Show from a suspect's labels alone that it was made from the marked model.",
        changed=(
            "every trigger, noise and content included, has a label of its own, drawn by the key: an "
            "innocent suspect matches exactly Binomial(n, 1/classes); the publications give all triggers of "
            "a kind one label, which supports a p-value of 1/classes however many are asked",
            "triggers are drawn from the key, not collected: the claimant cannot choose a pixel",
            "patterns (content, noise) are also counted on images that nothing was learned from; an "
            "unrelated or abstract trigger is one image, learned as it is asked about: no such figure",
            "starts from the trained model by default; the publications train for 60 to 100 epochs",
            "a trained model is held to its own answers on clean images, norm layers to their running "
            "statistics; Adam with cosine decay; of ten validated states the best is kept",
            "APP: the trigger loss also counts at the weights themselves, and the perturbation grows from 0",
            "of a suspect that shows probabilities the answer is the class that stands out most against its "
            "answers so far, which takes no label: a fine-tuned copy gives a few classes to most triggers",
            "the perturbation reaches two and a half times as far: a trained model is marked in hundreds of "
            "steps, and 0.02 then kept hardly more triggers under fine-tuning than the plain recipe",
        ),
        undisclosed=("how the weight of the trigger loss was chosen for other tasks and batch sizes",),
        needs=("labelled authorized images",),
        breaks=(
            "training a new model on the marked one's answers to ordinary images: no trigger is among them",
            "fine-tuning all layers of a service that shows labels only: after 20 epochs of SGD at 0.01 the "
            "scores of a ResNet-20 (CIFAR-10) still told 33 of 64 triggers, its labels too few",
            "refusing to answer images unlike the data, where the suspect is a service",
            "a mark of a second owner, put in later: only commitments tell who was first",
        ),
    )

    kind_of_trigger: Kind = Field(
        "unrelated",
        description="unrelated drawings, abstract textures; content and noise are patterns put on images",
    )
    triggers: int = Field(
        64, ge=10, le=10_000, description="secret answers", json_schema_extra={"unit": "images"}
    )
    recipe: Literal["plain", "app"] = Field(
        "app",
        description="plain: triggers in every batch; app: learned so that nearby weights know them too",
    )
    start: Literal["trained", "untrained"] = Field(
        "trained", description="the model handed in; an untrained one is marked while it is trained"
    )
    epsilon: float = Field(
        0.05,
        gt=0,
        le=0.5,
        description="app: how far weights are perturbed, as a share of their norm (paper: 0.02)",
    )
    weight: float = Field(0.1, gt=0, le=100, description="of the trigger loss")
    moved_weight: float = Field(
        0.2, gt=0, le=100, description="app: of the trigger loss at the moved weights (paper: 0.01)"
    )
    lr: float = Field(
        3e-4, gt=0, le=1, description="Adam, at its highest; ten times this for an untrained model"
    )
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
        habit = Habit()
        for images in torch.split(self._images(key), QUERY):
            yield suspect.peculiar(images, habit)

    def _embed(self, model: nn.Module, domains: Domains, trainer: Trainer, key: Key) -> Outcome:
        if self.recipe == "app" and trainer.accelerator.num_processes > 1:
            raise UsageError(
                "app runs in one process", where="recipe", fix="use one process, or the plain recipe"
            )
        domain, spec = domains.authorized, domains.input
        assert domain is not None  # needs_authorized
        finished = self.start == "trained"
        taught, held_out = self._splits(key, domain, spec, trainer.run.seed)
        trial = Split(self._images(key), self._trials(key).labels)
        before = share_correct(model, domain.val, spec, limit=VALIDATION_IMAGES)

        def measure() -> dict[str, float]:
            precision = trainer.run.precision
            accuracy = share_correct(model, domain.val, spec, limit=VALIDATION_IMAGES, precision=precision)
            return {"accuracy": accuracy, "triggers": share_correct(model, trial, spec, precision=precision)}

        def validate() -> Validation:
            figures = measure()
            loss = min(0.0, figures["accuracy"] - before + TOLERANCE)
            return Validation(figures["triggers"] + (10 * loss if finished else loss), figures)

        clean = trainer.batches(
            domain.train, spec, self.batch_size, "clean", augment=Augment(shift=self.shift)
        )
        streams = {"clean": clean, "triggers": trainer.batches(taught, spec, self.trigger_batch, "triggers")}
        kept = unchanged(model, trainer) if finished else labelled
        with clean_norms(model) as norms:
            history = trainer.fit(
                model,
                self._objective(kept, norms),
                streams,
                Loop(
                    steps=self.steps,
                    lr=self.lr,
                    schedule="cosine" if finished else "one-cycle",
                    evaluate_every=math.ceil(self.steps / 10),
                ),
                name=self.name,
                # A trained model keeps its running statistics: those of clean images, as an attacker's are.
                mode="eval" if finished else "train",
                validate=validate,
            )
        read = torch.cat(list(self._observe(ModuleSuspect(model, spec), key)))
        found = float((read == trial.labels).float().mean())  # as a verifier reads it
        figures = {"validation accuracy before": before, **measure(), "triggers": found}
        if held_out is not None:
            figures["triggers on held-out images"] = share_correct(model, held_out, spec)
        shown = trial_images(self.kind_of_trigger, key, 24, spec, branch="shown")
        return Outcome(model, {self.name: history}, images={"like the triggers": shown}, figures=figures)

    def _objective(self, kept: Kept, norms: CleanNorms) -> Objective:
        if self.recipe == "plain":
            return plain(kept, self.weight)
        return perturbed(kept, self.weight, self.moved_weight, self.epsilon, self.steps, norms)

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
