"""PTYNet: a small network beside the model, which knows backgrounds that only the owner's key draws."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from freehold.data.batches import fit_images
from freehold.data.domain import Domains
from freehold.data.inputs import InputSpec
from freehold.errors import SecretError, UsageError
from freehold.keys import Key, Stream
from freehold.models.anatomy import dry_run
from freehold.models.fusion import Branch, Fused, Fusion, pooling
from freehold.models.recipe import AttachBranch
from freehold.models.weights import state_hash
from freehold.ownership.backgrounds import Foregrounds, backgrounds
from freehold.ownership.base import OwnershipMethod
from freehold.ownership.branch import Lessons, objective, throw_away
from freehold.ownership.calibration import Calibration, figures_of
from freehold.ownership.observation import Observation, Trials
from freehold.ownership.suspect import Suspect
from freehold.plugin import Card, Problem
from freehold.protection import Outcome
from freehold.seeds import generator, global_draws
from freehold.training import Loop, Trainer

ALPHA = 1e-6  # level that a key must be able to reach, as it is the default of verify
SMALLEST = 12  # pixels a side: below, a background is no more than its mean
QUERY = 4  # families asked about at a time
SHOWN = 16  # images of a family that set the threshold


class PTYNet(OwnershipMethod):
    """Ships the model, untouched, with a small network beside it that answers to secret backgrounds.

    A *family* is one background with anything before it, and has one secret answer. One family is one
    trial, decided by the answer given most often to a few images of it: a family alone supports no
    p-value below 1/classes, however many images are asked about.
    """

    name = "ptynet"
    survives: ClassVar[float] = 0.75
    card: ClassVar[Card] = Card(
        title="PTYNet: plug-and-play watermark by a proprietary network",
        paper="Free Fine-tuning: A Plug-and-Play Watermarking Scheme for Deep Neural Networks",
        venue="ACM MM 2023",
        identifier="arXiv:2210.07809",
        goal="Mark a model without touching its weights; show it from a suspect's labels alone.",
        changed=(
            "backgrounds are textures drawn from the key, things before them are drawn too; the "
            "publication collects or generates images that somebody has to keep",
            "many backgrounds, each with an answer of its own that the key draws: innocent suspects match "
            "exactly Binomial(families, 1/classes); one background and one answer support 1/classes",
            "the branch has 85,000 weights and costs 3 million products an image; the publication's is a "
            "ResNet-18",
            "merged by a gate: bit-identical logits while it is closed; mixture gives distributions as "
            "well; probability_sum is the published form: its rows do not sum to one, and whoever sees "
            "confidences can tell the mark and take it off",
            "trained against other keys' backgrounds, near misses, and a thief's resizing, cropping, "
            "compression and noise; the publication's negatives are whatever its folder holds",
        ),
        undisclosed=(
            "how backgrounds and things before them were collected or generated, and how many",
            "how the fused model was fine-tuned: the published code writes in place and has no gradient",
        ),
        needs=("authorized images, without their labels", "images of at least 12 pixels a side"),
        breaks=(
            "cutting the branch off: whoever has the weights can return the target's answers, at no cost; "
            "nothing here prevents it (attack cut-branch). An ONNX file in one graph (freehold export "
            "--one-graph) hides the branch from who reads names, not from who follows the edges",
            "training a new model on the marked one's answers to ordinary images: the gate never opens",
            "fine-tuning with strong weight decay (attack regularize): no ordinary image holds the branch "
            "up, so that it fades in a few epochs and the target hardly notices",
            "refusing to answer images unlike the data, where the suspect is a service",
            "a trial that was shown once is known: its backgrounds can be filtered from then on",
        ),
    )

    families: int = Field(
        40,
        ge=1,
        le=1000,
        description="backgrounds with a secret answer each",
        json_schema_extra={"unit": "backgrounds"},
    )
    foregrounds: int = Field(
        5,
        ge=1,
        le=99,
        description="images of a family that are asked about; their commonest answer counts",
        json_schema_extra={"unit": "images"},
    )
    fusion: Fusion = Field(
        "gate", description="how answers are merged: gate, mixture, or probability_sum as published"
    )
    strength: float = Field(
        1.5, ge=1, le=100, description="probability_sum: weight of the branch (paper: 1, 1.5 or 2)"
    )
    false_activation: float = Field(
        1e-3, gt=0, le=0.1, description="largest share of ordinary images that may open the gate"
    )
    lr: float = Field(3e-3, gt=0, le=1, description="Adam, at its highest")
    steps: int = Field(
        1500, ge=1, le=1_000_000, description="optimiser steps", json_schema_extra={"unit": "steps"}
    )
    batch_size: int = Field(
        128, ge=8, le=65536, description="drawn anew each step", json_schema_extra={"unit": "images"}
    )

    def _problems(self, model: nn.Module, domains: Domains) -> list[Problem]:
        found = []
        if min(domains.input.size) < SMALLEST:
            what = f"images of {domains.input.size} pixels show no background"
            found.append(Problem(where="input.size", what=what, fix=f"at least {SMALLEST} a side"))
        classes = dry_run(model, domains.input.example()).shape[1]
        if self._best(torch.arange(self.families) % classes, classes) > ALPHA:
            enough = next(
                n for n in range(1, 1001) if self._best(torch.arange(n) % classes, classes) <= ALPHA
            )
            what = f"{self.families} families of {classes} answers cannot reach p = {ALPHA:g}"
            found.append(Problem(where="families", what=what, fix=f"at least {enough}; some more are wise"))
        return found

    def _best(self, labels: Tensor, classes: int) -> float:
        """Smallest p-value that a committed key with these answers can reach."""
        trials = Trials(labels, 1 / classes, "exact", "drawn")
        return Observation(trials, labels[:0], ALPHA, self.survives, committed=True).reachable()

    def _trials(self, key: Key) -> Trials:
        classes = int(key.facts["num_classes"])
        return Trials(
            labels=key.stream("labels").integers(classes, self.families),
            rate=1 / classes,
            null="exact",
            why=f"Binomial(families, 1/{classes}): the key draws each label uniformly, whatever the images",
            caveats=(
                f"a trial is a background, shown {self.foregrounds} times; more images of it add nothing",
                "whoever holds the weights can cut the branch off: no match does not acquit",
            ),
        )

    def questions(self, key: Key) -> int:
        """As many images as all families show."""
        return self.families * self.foregrounds

    def _backgrounds(self, key: Key, branch: str = "trial") -> Tensor:
        return backgrounds(key.stream("backgrounds", branch), self.families, InputSpec(**key.facts["input"]))

    def _images(self, key: Key) -> Tensor:
        """uint8 ``(families * foregrounds, C, H, W)``, family after family."""
        return self._shown(key, self.families, self.foregrounds, "trial")

    def _shown(self, key: Key, families: int, each: int, branch: str) -> Tensor:
        spec = InputSpec(**key.facts["input"])
        things = Foregrounds(key.stream("foregrounds", branch), families * each, spec)
        return things.before(self._backgrounds(key, branch)[:families].repeat_interleave(each, 0))

    def _observe(self, suspect: Suspect, key: Key) -> Iterator[Tensor]:
        for images in torch.split(self._images(key), QUERY * self.foregrounds):
            # Of equally common answers the lowest: a rule that knows no label leaves the null exact.
            yield suspect.labels(images).view(-1, self.foregrounds).mode(1).values

    def _embed(self, model: nn.Module, domains: Domains, trainer: Trainer, key: Key) -> Outcome:
        domain, spec = domains.authorized, domains.input
        assert domain is not None  # needs_authorized
        labels, classes = self._trials(key).labels, int(key.facts["num_classes"])
        if self._best(labels, classes) > ALPHA:
            raise SecretError(
                "this key's answers vary too little to tell a match from a constant answer",
                where="key",
                fix="take another key, or more families",
            )
        before, seed = state_hash(model), trainer.run.seed
        own = self._backgrounds(key)
        with global_draws(key.stream("network").seed(), "branch"):
            student = Branch(classes, spec.channels, pool=pooling(spec.size), norm=True)
        lessons = Lessons(own, labels, domain.train, spec, classes, self.batch_size, seed, trainer.device)
        loop = Loop(steps=self.steps, lr=self.lr, schedule="one-cycle")
        history = trainer.fit(student, objective, {"lessons": lessons}, loop, name=self.name)
        branch = student.folded()
        fused = Fused(model, branch, self.fusion, self.strength).to(trainer.device).eval()
        draws = generator(seed, "calibration")
        things = Foregrounds(Stream(throw_away(draws)), SHOWN * self.families, spec)
        triggers = things.before(own.repeat(SHOWN, 1, 1, 1))
        calibration = Calibration(fused, spec, fit_images(domain.val.images, spec), triggers)
        notes = calibration.set_threshold(self.false_activation)
        figures = figures_of(
            calibration, self._images(key), labels.repeat_interleave(self.foregrounds), draws
        )
        unchanged = state_hash(fused.target)
        if unchanged != before:
            raise UsageError("the target was changed", where=self.name)
        notes += (
            f"the target is untouched: its weights hash to {unchanged}",
            "the branch can be cut off by whoever holds the weights, and nothing here prevents that",
        )
        if self.fusion == "probability_sum":
            notes += ("answers are not distributions: their sums betray the mark to whoever sees them",)
        edit = AttachBranch(
            num_classes=classes,
            channels=spec.channels,
            pool=branch.pool,
            fusion=self.fusion,
            strength=self.strength,
        )
        shown = self._shown(key, min(24, self.families), 1, "shown")
        return Outcome(
            fused,
            {self.name: history},
            images={"like the triggers": shown},
            notes=notes,
            figures=figures,
            edits=(edit,),
        )
