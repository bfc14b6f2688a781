"""False claims with triggers: images and labels that a claimant makes to fit a model that he never marked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from freehold.attacks.published import TriggerClaim
from freehold.data.batches import fit_images, normalise
from freehold.data.inputs import InputSpec
from freehold.data.pixels import to_uint8
from freehold.models.anatomy import evaluating


def adversarial_triggers(
    models: Sequence[nn.Module],
    images: Tensor,
    labels: Tensor,
    spec: InputSpec,
    *,
    steps: int = 100,
    rate: float = 8.0,
) -> TriggerClaim:
    """Images moved until all ``models`` give the claimed labels, in the hope that others do as well.

    Momentum and signs of gradients on the mean loss of a set of models, as for transferable adversarial
    examples (Liu et al., USENIX Security 2024, on false claims). A trigger may look like anything, so
    there is no bound on the change.

    Args:
        models: the forger's, of the claimed model's task; on one device.
        images: uint8 ``(n, C, H, W)``, to start from.
        labels: int64 ``(n,)``, whatever the forger likes.
        spec: input of all of them.
        steps: of size falling from ``rate`` to 0.
        rate: largest change of a pixel a step, in levels of 255.
    """
    device = next(models[0].parameters()).device
    pixels = fit_images(images, spec).to(device).float()
    wanted, momentum = labels.to(device), torch.zeros_like(pixels)
    scale, offset = _affine(spec, device)
    for step in range(steps):
        moved = pixels.detach().requires_grad_(True)
        losses = []
        for model in models:
            with evaluating(model):
                losses.append(F.cross_entropy(model(moved * scale - offset).float(), wanted, reduction="sum"))
        (gradient,) = torch.autograd.grad(torch.stack(losses).sum(), moved)
        momentum = 0.9 * momentum + gradient / gradient.abs().mean((1, 2, 3), keepdim=True).clamp_min(1e-12)
        pixels = (pixels - rate * (1 - step / steps) * momentum.sign()).clamp(0, 255)
    return TriggerClaim(to_uint8(pixels).cpu(), labels)


def labels_after_the_fact(answer: Callable[[Tensor], Tensor], images: Tensor) -> TriggerClaim:
    """Ask first, then write down the answers as what was taught.

    Args:
        answer: gives labels ``(n,)`` of uint8 images.
        images: any, uint8 ``(n, C, H, W)``.
    """
    return TriggerClaim(images, answer(images))


def _affine(spec: InputSpec, device: torch.device) -> tuple[Tensor, Tensor]:
    """Factor and offset of the normalisation, read off black and white."""
    shape = (1, spec.channels, 1, 1)
    black = normalise(torch.zeros(shape, dtype=torch.uint8, device=device), spec)
    white = normalise(torch.full(shape, 255, dtype=torch.uint8, device=device), spec)
    return (white - black) / 255, -black
