"""Adversarial neuron pruning: neurons that a small change turns against the task are cut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from freehold.attacks.base import Attack, Taken, leaked
from freehold.attacks.permute import along
from freehold.data.batches import Batch
from freehold.data.domain import Domain, InputSpec
from freehold.errors import ModelError
from freehold.metrics.accuracy import share_correct
from freehold.models.anatomy import find_head
from freehold.models.channels import normed_layers
from freehold.models.probe import out_channels
from freehold.plugin import Card, Problem
from freehold.seeds import generator
from freehold.training import Loop, Trainer

THRESHOLDS = tuple(i / 20 for i in range(19))  # 0 to 0.9


class NeuronPruning(Attack):
    """Learns how much of each neuron to keep while all of them are moved against the task, and cuts."""

    name = "anp"
    card: ClassVar[Card] = Card(
        title="Adversarial neuron pruning (ANP)",
        paper="Adversarial Neuron Pruning Purifies Backdoored Deep Models",
        venue="NeurIPS 2021",
        goal="Find the neurons of a backdoor by how sensitive they are, and cut them; nothing else changes.",
        changed=(
            "layers without a norm are perturbed as well, at their own weights and bias",
            "the threshold is the largest up to 0.9 that costs no more accuracy than loss on the attacker's "
            "validation images",
        ),
        undisclosed=("how the threshold is chosen for a model whose mark is not known",),
        needs=("a few labelled images",),
        breaks=(
            "marks spread over neurons that the task needs",
            "networks of a hundred neurons: moved by the published eps they forget the task at once",
        ),
    )
    stronger: ClassVar[dict[str, Any]] = {"share": 1.0, "loss": 0.05}

    share: float = Field(0.05, gt=0, le=1, description="of the training images that leaked")
    steps: int = Field(2000, ge=1, le=1_000_000, json_schema_extra={"unit": "steps"}, description="SGD")
    lr: float = Field(0.2, gt=0, le=10)
    eps: float = Field(0.4, gt=0, le=1, description="how far a neuron is moved, as a share of it")
    alpha: float = Field(0.2, ge=0, le=1, description="weight of the unmoved network's loss")
    loss: float = Field(0.02, ge=0, le=1, description="of accuracy that is put up with when cutting")
    batch_size: int = Field(128, ge=2, le=65536, json_schema_extra={"unit": "images"})

    def _problems(self, model: nn.Module, domain: Domain, spec: InputSpec) -> list[Problem]:
        try:
            if neurons(model, spec.example()):
                return []
        except ModelError as error:
            return [Problem(where=error.where or "model", what=error.what, fix=error.fix)]
        return [Problem(where="model", what="has no layer before its classifier", fix="attack fine-tune")]

    def _run(self, model: nn.Module, domain: Domain, spec: InputSpec, trainer: Trainer) -> Taken:
        images = leaked(domain.train, self.share, trainer.run.seed)
        kept = Shares(model.requires_grad_(False), neurons(model, spec.example()))
        stream = trainer.batches(images, spec, self.batch_size, "attack")

        def objective(forward: nn.Module, batches: Mapping[str, Batch], step: int) -> dict[str, Tensor]:
            batch = batches["train"]
            with torch.no_grad():
                for share in kept.shares:
                    share.clamp_(0, 1)
            kept.shake(self.eps, generator(trainer.run.seed, "neurons", step))
            kept.climb(F.cross_entropy(forward(batch.images).float(), batch.labels), self.eps)
            robust = F.cross_entropy(forward(batch.images).float(), batch.labels)
            kept.still()
            natural = F.cross_entropy(forward(batch.images).float(), batch.labels)
            return {
                "loss": self.alpha * natural + (1 - self.alpha) * robust,
                "natural": natural,
                "robust": robust,
            }

        loop = Loop(steps=self.steps, optimizer="sgd", lr=self.lr)
        history = trainer.fit(kept, objective, {"train": stream}, loop, name=self.name, mode="eval")
        model.requires_grad_(True)
        self._cut(model, kept, domain, spec)
        return Taken(model, images=len(images), history=history)

    @torch.no_grad()
    def _cut(self, model: nn.Module, kept: Shares, domain: Domain, spec: InputSpec) -> None:
        """Cut at one threshold after the other while accuracy bears it."""
        enough = share_correct(model, domain.val, spec) - self.loss
        weights = [model.get_parameter(f"{owner}.weight") for owner in kept.owners]
        safe = [weight.clone() for weight in weights]
        for threshold in THRESHOLDS:
            for weight, share in zip(weights, kept.shares, strict=True):
                weight.mul_(along((share > threshold).float(), weight, 0))
            if share_correct(model, domain.val, spec) < enough:
                break
            safe = [weight.clone() for weight in weights]
        for weight, before in zip(weights, safe, strict=True):
            weight.copy_(before)


def neurons(model: nn.Module, example: Tensor) -> tuple[str, ...]:
    """Modules whose rows are neurons: norms behind layers, and layers without one; the classifier is none.

    Raises:
        ModelError: the model does not end in a linear layer.
    """
    head, norms = find_head(model, example), normed_layers(model, example)
    layers = [n for n, m in model.named_modules() if out_channels(m) is not None and n != head]
    owners = (norms.get(layer, layer) for layer in layers)
    return tuple(dict.fromkeys(o for o in owners if isinstance(model.get_submodule(o).weight, nn.Parameter)))


class Shares(nn.Module):
    """A frozen model with a share in [0, 1] of each neuron: all that is learned.

    Args:
        model: frozen.
        owners: from :func:`neurons`.
    """

    def __init__(self, model: nn.Module, owners: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.owners = model, owners
        sizes = [len(model.get_parameter(f"{owner}.weight")) for owner in owners]
        device = next(model.parameters()).device
        self.shares = nn.ParameterList(torch.ones(size, device=device) for size in sizes)
        self.still()

    def still(self) -> None:
        """Move no neuron."""
        self.moves = [torch.zeros(2, len(share), device=share.device) for share in self.shares]

    def shake(self, eps: float, draws: torch.Generator) -> None:
        """Move weight and bias of each neuron by up to ``eps`` anywhere: what sleeps has no gradient."""
        self.moves = [
            ((2 * torch.rand(2, len(share), generator=draws) - 1) * eps).to(share).requires_grad_()
            for share in self.shares
        ]

    def climb(self, loss: Tensor, eps: float) -> None:
        """One step of ``eps`` to where ``loss``, just computed, rises, and never farther than ``eps``."""
        gradients = torch.autograd.grad(loss, self.moves, allow_unused=True, materialize_grads=True)
        self.moves = [
            (move.detach() + eps * gradient.sign()).clamp(-eps, eps)
            for move, gradient in zip(self.moves, gradients, strict=True)
        ]

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, K)`` of the model with its neurons as they are kept and moved."""
        changed = {}
        for owner, share, (move, shift) in zip(self.owners, self.shares, self.moves, strict=True):
            module = self.model.get_submodule(owner)
            changed[f"{owner}.weight"] = module.weight * along(share + move, module.weight, 0)  # type: ignore[operator, arg-type]
            if module.bias is not None:
                changed[f"{owner}.bias"] = module.bias * (1 + shift)
        logits: Tensor = functional_call(self.model, changed, (images,))
        return logits
