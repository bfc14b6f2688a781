"""Mask inversion: weights that a mask set to zero are filled again, with a guess of the original or none."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from freehold.attacks.base import Attack, Taken
from freehold.attacks.fine_tune import FineTune
from freehold.data.domain import Domain, InputSpec
from freehold.errors import FreeholdError
from freehold.models.anatomy import maskable_weights
from freehold.models.weights import load_weights
from freehold.plugin import Card, Problem
from freehold.seeds import generator
from freehold.training import Trainer

ROUNDS, RANK = 20, 8  # of completion: rounds, and its rank as one over the smaller side


class Unprune(Attack):
    """Fills the zeros of a masked model; weights that are left stay as they are."""

    name = "unprune"
    card: ClassVar[Card] = Card(
        title="Mask inversion",
        paper="MAP: MAsk-Pruning for Source-Free Model Intellectual Property Protection",
        venue="CVPR 2024",
        goal="Undo a protection that works by setting weights to zero: the places are there for all to see.",
        changed=("the publication does not consider this attack; the ways to fill are ours",),
        needs=("weights", "for the full effect a file with the original weights or some close to them"),
        breaks=("without a guess, weights that cannot be told from those that are left",),
    )
    prey = "unauthorized"
    stronger: ClassVar[dict[str, Any]] = {"fill": "low-rank", "epochs": 20.0}

    fill: Literal["noise", "mean", "low-rank"] = Field(
        "noise",
        description="without a guess: noise of the live weights' size, the mean of each filter's, or what a "
        "matrix of low rank would hold there",
    )
    guess: str | None = Field(
        None,
        description="safetensors file with a guess of the original weights by name, such as the public "
        "checkpoint that the owner started from; read where weights are zero, in the place of fill",
    )
    epochs: float = Field(0.0, ge=0, le=1000, description="of fine-tuning all layers afterwards")

    def _problems(self, model: nn.Module, domain: Domain, spec: InputSpec) -> list[Problem]:
        try:
            weights = maskable_weights(model)
            guess = load_weights(self.guess) if self.guess else {}
        except FreeholdError as error:
            return [Problem(where=error.where or "model", what=error.what, fix=error.fix)]
        if all(bool(weight.all()) for weight in weights.values()):
            return [Problem(where="model", what="no weight is zero", fix="attack a model that was pruned")]
        unfit = [n for n, w in weights.items() if guess and (n not in guess or guess[n].shape != w.shape)]
        fix = "a guess has the released model's names and shapes"
        return [Problem(where=f"guess: {n}", what="is not there or of another shape", fix=fix) for n in unfit]

    def _run(self, model: nn.Module, domain: Domain, spec: InputSpec, trainer: Trainer) -> Taken:
        guess = load_weights(self.guess) if self.guess else {}
        with torch.no_grad():
            for name, weight in maskable_weights(model).items():
                draws = generator(trainer.run.seed, "unprune", name)
                filling = guess[name].to(weight) if guess else filled(weight, self.fill, draws)
                weight.copy_(torch.where(weight == 0, filling, weight))
        if not self.epochs:
            return Taken(model)
        return FineTune(epochs=self.epochs)._run(model, domain, spec, trainer)


def filled(weight: Tensor, kind: str, draws: torch.Generator) -> Tensor:
    """What might have stood where ``weight`` (at least two dimensions) is zero; its shape."""
    live = (weight != 0).flatten(1)
    flat = weight.flatten(1)
    if kind == "noise":
        size = flat.square().sum().div(live.sum().clamp_min(1)).sqrt()
        return torch.randn(weight.shape, generator=draws).to(weight) * size
    mean = (flat.sum(1) / live.sum(1).clamp_min(1))[:, None].expand_as(flat)
    if kind == "mean":
        return mean.reshape(weight.shape)
    complete = torch.where(live, flat, mean)
    rank = max(1, min(flat.shape) // RANK)
    for _ in range(ROUNDS):
        left, sizes, right = torch.linalg.svd(complete, full_matrices=False)
        low = (left[:, :rank] * sizes[:rank]) @ right[:rank]
        complete = torch.where(live, flat, low)
    return complete.reshape(weight.shape)
