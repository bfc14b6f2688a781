"""How a model learns its triggers: beside the clean images, or also where its weights were moved."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from freehold.data.batches import Batch
from freehold.models.clean_norms import CleanNorms
from freehold.training import Objective, Trainer
from freehold.training.losses import distillation

Kept = Callable[[Tensor, Batch], Tensor]  # what logits (B, K) of a clean batch cost


def error(logits: Tensor, batch: Batch) -> Tensor:
    """What logits ``(B, K)`` cost: cross-entropy with the labels of the batch."""
    return F.cross_entropy(logits.float(), batch.labels)


def labelled(logits: Tensor, clean: Batch) -> Tensor:
    """The clean loss of a model in training."""
    return error(logits, clean)


def unchanged(model: nn.Module, trainer: Trainer) -> Kept:
    """The clean loss of a trained model: to answer as it does now."""
    teacher = copy.deepcopy(model).eval().requires_grad_(False)

    def loss(logits: Tensor, clean: Batch) -> Tensor:
        with torch.no_grad(), trainer.accelerator.autocast():
            answers: Tensor = teacher(clean.images)
        return distillation(logits, answers)

    return loss


def plain(kept: Kept, weight: float) -> Objective:
    """Clean images and triggers pass as one batch, as published; ``weight`` is that of the triggers."""

    def objective(forward: nn.Module, batches: Mapping[str, Batch], step: int) -> dict[str, Tensor]:
        clean, triggers = batches["clean"], batches["triggers"]
        logits = forward(torch.cat([clean.images, triggers.images]))
        same, marked = kept(logits[: len(clean)], clean), error(logits[len(clean) :], triggers)
        return {"loss": same + weight * marked, "clean loss": same, "trigger loss": marked}

    return objective


def perturbed(
    kept: Kept, weight: float, moved: float, epsilon: float, steps: int, norms: CleanNorms
) -> Objective:
    r"""Triggers are learned where the weights are, and where they were moved against them.

    .. math:: L(\theta, D) + w L(\theta, T)
              + m \max_{\|\delta\| \le \epsilon \|\theta\|} L(\theta + \delta, T)

    with the maximum taken to lie along the gradient: one step, over all parameters at once. The radius
    rises from 0 in the first to its full length in the last quarter, or a trained model learns nothing.

    Args:
        kept: the clean loss.
        weight: w.
        moved: m.
        epsilon: radius, as a share of the norm of all weights.
        steps: of the fit.
        norms: of the model in training mode.
    """

    def objective(forward: nn.Module, batches: Mapping[str, Batch], step: int) -> dict[str, Tensor]:
        clean, triggers = batches["clean"], batches["triggers"]
        norms.hold = False
        same = kept(forward(clean.images), clean)
        norms.hold = True
        here = worst = error(forward(triggers.images), triggers)
        radius = epsilon * min(1.0, max(0.0, 2 * step / steps - 0.5))
        if radius:
            there = _uphill(forward, here, radius)
            worst = error(functional_call(forward, there, (triggers.images,)), triggers)
        norms.hold = False
        loss = same + weight * here + moved * worst
        return {"loss": loss, "clean loss": same, "trigger loss": here, "moved loss": worst}

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
