"""TransNTL: fine-tuning on a little authorized data, steady under perturbations (Hong et al., CVPR 2024)."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from freehold.attacks.base import Attack, Taken, leaked
from freehold.data.batches import Batch, sequential
from freehold.data.domain import Domain, InputSpec, Split
from freehold.data.pixels import gaussian_blur
from freehold.models.anatomy import evaluating
from freehold.plugin import Card
from freehold.seeds import generator
from freehold.training import Loop, Trainer, Validation
from freehold.training.losses import distillation

GROUPS = 3  # additive noise, multiplicative noise, blur
BLUR = 2  # pixels on either side


class TransNTL(Attack):
    """Restores what a protection took away without a single image of the closed domain."""

    name = "transntl"
    card: ClassVar[Card] = Card(
        title="TransNTL",
        paper="Your Transferability Barrier is Fragile: Free-Lunch for Transferring the Non-Transferable "
        "Learning",
        venue="CVPR 2024",
        goal="Make a protected model answer perturbed authorized images like clean ones: the barrier falls.",
        changed=(
            "all groups of perturbed images pass in one batch with the clean ones",
            "steps instead of 400 epochs; the kept state is the best on authorized validation images, clean "
            "and perturbed: the publication's code chooses by the closed domain, which no attacker can",
        ),
        undisclosed=("the settings are those of the reference code for CIFAR-10 and STL-10",),
        needs=("a share of the labelled authorized images, none of the closed domain",),
        breaks=("protections that cut the route instead of bending it: to be measured for each",),
    )
    stronger: ClassVar[dict[str, Any]] = {"share": 1.0, "steps": 3000, "lr": 1e-3}

    share: float = Field(0.1, gt=0, le=1, description="of the authorized training images that leaked")
    steps: int = Field(1000, ge=1, le=1_000_000, json_schema_extra={"unit": "steps"}, description="Adam")
    lr: float = Field(1e-4, gt=0, le=1)
    weight_decay: float = Field(1e-4, ge=0, le=1)
    batch_size: int = Field(32, ge=2, le=65536, json_schema_extra={"unit": "images"})
    noise: float = Field(0.2, gt=0, le=10, description="deviation of both noises, of the normalised image")
    weight: float = Field(0.1, ge=0, le=100, description="of staying steady under perturbation")
    radius: float = Field(0.5, ge=0, le=10, description="of the adaptive sharpness-aware step; 0 is Adam")
    group_lr: float = Field(0.01, ge=0, le=10, description="how fast the worst group gains weight")

    def _run(self, model: nn.Module, domain: Domain, spec: InputSpec, trainer: Trainer) -> Taken:
        images = leaked(domain.train, self.share, trainer.run.seed)
        stream = trainer.batches(images, spec, self.batch_size, "attack")
        weighted = _Weighted(model)

        def objective(forward: nn.Module, batches: Mapping[str, Batch], step: int) -> dict[str, Tensor]:
            batch = batches["train"]
            views = perturbed(batch.images, self.noise, generator(trainer.run.seed, "perturb", step))
            if not self.radius:
                return self._loss(forward(views), batch.labels, weighted.groups)
            moving = {n: p for n, p in forward.named_parameters() if p.requires_grad}
            first = self._loss(forward(views), batch.labels, weighted.groups)["loss"]
            gradients = torch.autograd.grad(first, list(moving.values()), allow_unused=True)
            climbed = climb(moving, gradients, self.radius)
            return self._loss(functional_call(forward, climbed, (views,)), batch.labels, weighted.groups)

        def validate() -> Validation:
            clean, shaken = steadiness(model, domain.val, spec, self.noise)
            return Validation(clean + shaken, {"accuracy": clean, "under perturbation": shaken})

        loop = Loop(
            steps=self.steps,
            lr=self.lr,
            weight_decay=self.weight_decay,
            evaluate_every=math.ceil(self.steps / 10),
        )
        last: list[nn.Module] = []
        history = trainer.fit(
            weighted.to(trainer.device),
            objective,
            {"train": stream},
            loop,
            name=self.name,
            validate=validate,
            finish=lambda: last.append(copy.deepcopy(model)),
        )
        return Taken(model, last[0], images=len(images), history=history)

    def _loss(self, logits: Tensor, labels: Tensor, groups: Tensor) -> dict[str, Tensor]:
        """Right on clean images; clean answers on perturbed ones, the worst group first (group DRO)."""
        clean, *shaken = logits.chunk(GROUPS + 1)
        truth = F.cross_entropy(clean.float(), labels)
        each = torch.stack([distillation(part, clean.detach()) for part in shaken])
        with torch.no_grad():
            groups.mul_((self.group_lr * each).exp()).div_(groups.sum())
        unsteady = (groups * each).sum()
        return {"loss": truth + self.weight * unsteady, "truth": truth, "unsteady": unsteady}


class _Weighted(nn.Module):
    """The model, and how much each group counts: state that a resumed run must find again."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.groups: Tensor
        self.register_buffer("groups", torch.full((GROUPS,), 1 / GROUPS))

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, K)``."""
        logits: Tensor = self.model(images)
        return logits


def perturbed(images: Tensor, noise: float, draws: torch.Generator) -> Tensor:
    """``(4B, C, H, W)``: the images, then under additive noise, multiplicative noise, and blurred."""
    added, scaled = (torch.randn(images.shape, generator=draws).to(images) * noise for _ in range(2))
    return torch.cat([images, images + added, images * (1 + scaled), gaussian_blur(images, 1.0, BLUR)])


@torch.no_grad()
def steadiness(model: nn.Module, split: Split, spec: InputSpec, noise: float) -> tuple[float, float]:
    """Accuracy on images as they are, and over all their perturbed views."""
    device, draws = next(model.parameters()).device, generator(0, "steadiness")
    right = torch.zeros(GROUPS + 1, device=device)
    with evaluating(model):
        for batch in sequential(split, spec, 128, device=device):
            answers = model(perturbed(batch.images, noise, draws)).argmax(1).view(GROUPS + 1, -1)
            right += (answers == batch.labels).sum(1)
    clean, *shaken = (right / len(split)).tolist()
    return clean, sum(shaken) / GROUPS


def climb(
    parameters: Mapping[str, Tensor], gradients: tuple[Tensor | None, ...], radius: float
) -> dict[str, Tensor]:
    """Parameters moved uphill by adaptive sharpness-aware minimisation (Kwon et al., ICML 2021).

    ``w + radius * w^2 g / |w g|``, differentiable with respect to ``w`` as if the move were constant.
    """
    scaled = [
        p.detach().abs() * (torch.zeros_like(p) if g is None else g)
        for p, g in zip(parameters.values(), gradients, strict=True)
    ]
    norm = torch.stack([s.square().sum() for s in scaled]).sum().sqrt().clamp_min(1e-12)
    return {
        name: p + radius * p.detach().abs() * s / norm
        for (name, p), s in zip(parameters.items(), scaled, strict=True)
    }
