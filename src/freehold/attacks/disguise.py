"""Input disguise: closed images are dressed until a black box takes them for its own."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from freehold.attacks.adapt import entropy
from freehold.attacks.base import Attack, Taken, leaked
from freehold.data.batches import fit_images
from freehold.data.domain import Domain, InputSpec
from freehold.data.sources import load_domain
from freehold.plugin import Access, Card
from freehold.seeds import generator
from freehold.training import Trainer

SIDE = 5  # of the learned kernel, pixels
SHOW = 256  # unlabelled images on which disguises are compared


class Disguise(Attack):
    """Searches a colour map and a kernel under which the model's answers are sure and of all classes.

    Only probabilities are asked for: gradients are estimated from differences of answers.
    """

    name = "disguise"
    access: ClassVar[Access] = Access.PROBABILITIES
    card: ClassVar[Card] = Card(
        title="Input disguise (after JailNTL)",
        paper="Jailbreaking the Non-Transferable Barrier via Test-Time Data Disguising",
        venue="CVPR 2025",
        goal="Use a protected service on closed images by changing the images instead of the model.",
        changed=(
            "a colour map and a 5x5 kernel in the place of a translation network: some forty numbers, which "
            "a black box can be searched with in minutes",
            "confidence and balance of classes are one term, the information that an answer gives; "
            "authorized images, if any, count through mean and covariance of their colours only",
            "the search starts from the best of several plain changes, the negative among them",
        ),
        undisclosed=("length and step of the search are ours",),
        needs=("probabilities", "unlabelled closed images", "a few authorized images help"),
        breaks=("domains that differ in shape and not in looks", "services that answer with labels only"),
    )
    prey = "unauthorized"
    stronger: ClassVar[dict[str, Any]] = {"steps": 300, "directions": 16}

    authorized: str | None = Field(
        None, description="URI of authorized images that leaked, without labels; 80 of them are used"
    )
    steps: int = Field(40, ge=1, le=100_000, json_schema_extra={"unit": "steps"})
    directions: int = Field(8, ge=1, le=1024, description="pairs of answers a step")
    batch_size: int = Field(64, ge=8, le=65536, json_schema_extra={"unit": "images"})
    spread: float = Field(0.05, gt=0, le=1, description="size of the differences")
    lr: float = Field(0.05, gt=0, le=10, description="length of a step, falling to zero")

    @torch.no_grad()
    def _run(self, model: nn.Module, domain: Domain, spec: InputSpec, trainer: Trainer) -> Taken:
        model.eval()
        seed = trainer.run.seed
        dressed = Dressed(model, spec).to(trainer.device)
        stream = trainer.batches(domain.train, spec, self.batch_size, "attack")
        shown = trainer.batches(domain.val, spec, min(SHOW, len(domain.val)), "shown").batch(0).images
        starts = self._starts(dressed, stream.batch(0).images, spec, seed)
        queries = len(starts) * len(shown)
        found = dressed.information(starts, shown)
        here, best, most = starts[found.argmax()], starts[found.argmax()], found.max()
        every = math.ceil(self.steps / 10)
        for step in range(self.steps):
            draws = torch.randn(self.directions, len(here), generator=generator(seed, "directions", step))
            moves = self.spread * draws.to(here)
            scores = dressed.information(
                torch.cat([here + moves, here - moves]), stream.batch(step).images
            ).view(2, -1)
            slope = (scores[0] - scores[1]) @ moves
            here = here + self.lr * (1 - step / self.steps) * F.normalize(slope, dim=0)
            queries += 2 * self.directions * self.batch_size
            if (step + 1) % every == 0 or step + 1 == self.steps:
                now = dressed.information(here[None], shown)[0]
                queries += len(shown)
                best, most = torch.where(now > most, here, best), torch.maximum(now, most)
        last = Dressed(model, spec).to(trainer.device)
        last.numbers.copy_(here)
        dressed.numbers.copy_(best)
        images = len(domain.train) + len(domain.val)
        return Taken(dressed, last, images=images, queries=queries, steps=self.steps)

    def _starts(self, dressed: Dressed, images: Tensor, spec: InputSpec, seed: int) -> Tensor:
        """Plain changes ``(n, P)``: none, the negative, less and more contrast, grey, authorized colours."""
        channels = spec.channels
        eye = torch.eye(channels)
        maps = [eye, -eye, 0.5 * eye, 2 * eye, torch.full((channels, channels), 1 / channels)]
        starts = [dressed.packed(colours, torch.zeros(channels)) for colours in maps]
        if self.authorized is not None:
            theirs = load_domain(self.authorized).train
            few = leaked(theirs, min(1.0, 80 / len(theirs)), seed)
            wanted = fit_images(few.images, spec).float().div(255).cpu()
            starts.append(dressed.packed(*recoloured(dressed.pixels(images).cpu(), wanted)))
        return torch.stack(starts).to(images.device)


class Dressed(nn.Module):
    """A model behind a disguise; takes and gives what the model does.

    Args:
        model: asked for its answers only.
        spec: its input.
    """

    def __init__(self, model: nn.Module, spec: InputSpec) -> None:
        super().__init__()
        self.model, self.channels = model, spec.channels
        self.mean: Tensor
        self.std: Tensor
        self.numbers: Tensor
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(spec.std).view(1, -1, 1, 1))
        self.register_buffer("numbers", self.packed(torch.eye(self.channels), torch.zeros(self.channels)))

    @staticmethod
    def packed(colours: Tensor, offset: Tensor) -> Tensor:
        """A disguise of colours alone: ``(C, C)`` and ``(C,)``, about middle grey, and no blur."""
        kernel = torch.zeros(SIDE, SIDE)
        kernel[SIDE // 2, SIDE // 2] = 1
        return torch.cat([colours.flatten(), offset, kernel.flatten()])

    def pixels(self, images: Tensor) -> Tensor:
        """Normalised images as levels in [0, 1]."""
        return (images * self.std + self.mean).clamp(0, 1)

    def dress(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` under one disguise ``(P,)``."""
        c = self.channels
        colours, offset, kernel = torch.split(numbers, [c * c, c, SIDE * SIDE])
        levels = torch.einsum("oc,bchw->bohw", colours.view(c, c), self.pixels(images) - 0.5)
        levels = levels + offset.view(-1, 1, 1)
        padded = F.pad(levels, [SIDE // 2] * 4, mode="replicate")
        blurred = F.conv2d(padded, kernel.view(1, 1, SIDE, SIDE).expand(c, 1, -1, -1), groups=c)
        return ((blurred + 0.5).clamp(0, 1) - self.mean) / self.std

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, K)`` of the disguised images."""
        logits: Tensor = self.model(self.dress(images, self.numbers))
        return logits

    def information(self, disguises: Tensor, images: Tensor) -> Tensor:
        """How much an answer says about its image, in nats, under each of the disguises ``(n, P)``: ``(n,)``.

        The entropy of the mean answer less the mean entropy of the answers: high where all classes are
        given, each with confidence.
        """
        # One disguise at a time: all of them in one batch would not fit for large images.
        asked = [self.model(self.dress(images, numbers)).float() for numbers in disguises]
        answers = torch.stack(asked).softmax(2)
        return entropy(answers.mean(1)) - entropy(answers).mean(1)


def recoloured(have: Tensor, want: Tensor) -> tuple[Tensor, Tensor]:
    """The colour map ``(C, C)`` and offset ``(C,)`` that give images another set's mean and covariance.

    Args:
        have: levels ``(B, C, H, W)`` in [0, 1].
        want: the same of the other set.
    """
    (m, root, _), (n, _, other) = _moments(want), _moments(have)
    colours = root @ other
    return colours, m - 0.5 - colours @ (n - 0.5)


def _moments(levels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, and the root of the covariance and of its inverse, over all pixels."""
    colours = levels.transpose(0, 1).flatten(1)
    mean = colours.mean(1)
    spread, axes = torch.linalg.eigh(torch.cov(colours).view(len(mean), -1) + 1e-4 * torch.eye(len(mean)))
    root = spread.clamp_min(1e-8).sqrt()
    return mean, axes * root @ axes.T, axes / root @ axes.T
