"""CUTI-Domain: compact un-transferable isolation domain (Wang et al., CVPR 2023)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from freehold.authorization.pairing import Retraining, joint_logits
from freehold.data.batches import Batch
from freehold.data.domain import Domains
from freehold.errors import ModelError
from freehold.models.stages import channels_at_end, stages
from freehold.plugin import Card, Problem
from freehold.protection import Outcome
from freehold.seeds import derive
from freehold.training import Trainer
from freehold.training.losses import label_divergence

EPSILON = 1e-5


def isolate(features: Tensor, generator: torch.Generator) -> Tensor:
    """Give the target half of a feature map the style of the source half.

    ``f_C = f_T * sigmoid(W_s sigma(f_S)) + sigmoid(W_m mu(f_S))`` with per-image channel mean and
    standard deviation (unbiased, eps 1e-5) of the source half, and two 1x1 convolutions drawn anew
    at every call and never trained, as in the reference code.

    Args:
        features: ``(2B, C, H, W)``, ``(2B, H, W, C)`` or ``(2B, N, C)`` tokens, source half first.
        generator: draws the convolutions.

    Returns:
        The same shape; the source half is unchanged.
    """
    if channels_at_end(tuple(features.shape)):
        return isolate(features.flatten(1, 2), generator).reshape(features.shape)
    tokens = features.ndim == 3
    channels = features.shape[2 if tokens else 1]
    source, target = features.chunk(2)
    flat = source.float() if tokens else source.float().flatten(2).transpose(1, 2)  # (B, positions, C)
    mean = flat.mean(1)
    # The unbiased variance of a single position is undefined; such a map has no spread.
    variance = flat.var(1) if flat.shape[1] > 1 else torch.zeros_like(mean)
    bound = channels**-0.5  # torch's default initialisation of a convolution
    weights = (
        torch.empty(2, channels, channels).uniform_(-bound, bound, generator=generator).to(features.device)
    )
    scale = F.linear((variance + EPSILON).sqrt(), weights[0]).sigmoid()
    shift = F.linear(mean, weights[1]).sigmoid()
    shape = (len(mean), 1, channels) if tokens else (len(mean), channels, 1, 1)
    styled = target * scale.view(shape).to(target.dtype) + shift.view(shape).to(target.dtype)
    return torch.cat([source, styled])


class CUTI(Retraining):
    """Retrains the network against the target and, every other step, the target in source style."""

    name = "cuti"
    kind = "authorization"
    card: ClassVar[Card] = Card(
        title="CUTI-Domain, target-specified or target-free",
        paper="Model Barrier: A Compact Un-Transferable Isolation Domain for Model Intellectual Property "
        "Protection",
        venue="CVPR 2023",
        goal="Retrain a model so that it loses a known target domain and all between it and the source.",
        changed=(
            "starts from the trained model that is handed in; the reference starts from ImageNet weights",
            "the kept state is the best on validation images; the reference code keeps the last",
            "both batches are translated at random by up to two pixels; the publication augments nothing",
            "Adam at 5e-4 with cosine decay instead of 1e-4 with 0.999 a step",
            "the stages are found by looking at the model; the reference names them per architecture",
            "target-free: hand-made looks of the source, in which the unprotected model still sees the "
            "class, take the place of the publication's generated and restyled images",
        ),
        undisclosed=(
            "the generator's convolutions are random and untrained in the reference code: followed here",
            "batch norm: one joint pass over both domains",
        ),
        needs=(
            "labelled source images",
            "labelled target images of the same classes, or none at all",
            "a trunk with stages",
        ),
        breaks=(
            "TransNTL (CVPR 2024): fine-tuning on a tenth of the source data with perturbed inputs",
            "JailNTL (CVPR 2025): disguising target images as source images, with black-box access only",
            "fine-tuning on labelled target images",
        ),
    )

    alpha: float = Field(0.1, gt=0, le=10, description="weight of the target loss (paper: 0.1)")
    beta: float = Field(1.0, gt=0, le=100, description="clip of the weighted target loss (paper: 1)")

    def _problems(self, model: nn.Module, domains: Domains) -> list[Problem]:
        try:
            stages(model, domains.input.example())
        except ModelError as error:
            return [Problem(where="model", what=error.what, fix="use NTL or MAP, which need no stages")]
        return []

    def _protect(self, model: nn.Module, domains: Domains, trainer: Trainer) -> Outcome:
        ends = stages(model, domains.input.example())
        generator = torch.Generator()

        def objective(forward: nn.Module, batches: Mapping[str, Batch], step: int) -> dict[str, Tensor]:
            generator.manual_seed(derive(trainer.run.seed, "isolation", step))
            with isolation(model, ends if step % 2 else (), generator):
                source, target = joint_logits(forward, batches)
            kept = label_divergence(source, batches["source"].labels, "mean")
            lost = label_divergence(target, batches["target"].labels, "mean")
            return {
                "loss": kept - (self.alpha * lost).clamp_max(self.beta),
                "source loss": kept,
                "target loss": lost,
            }

        history = self._retrain(model, objective, domains, trainer)
        return Outcome(model, {self.name: history})


@contextmanager
def isolation(model: nn.Module, ends: tuple[str, ...], generator: torch.Generator) -> Iterator[None]:
    """Pass the output of each named module through :func:`isolate` while the block lasts."""

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return isolate(output, generator)

    with ExitStack() as stack:
        for name in ends:
            stack.callback(model.get_submodule(name).register_forward_hook(hook).remove)
        yield
