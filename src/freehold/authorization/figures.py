"""Flat figures on flat ground, in which a trained network sees its classes: a target made from nothing.

A domain that nobody has images of is replaced by what many of them have in common with the source when
all else is gone: the shape. A generator draws soft figures; each is painted in two random tones, one for
the figure and one for the ground, light or dark, coloured or not; and the network, frozen, has to see the
class that was asked for in whatever tones it gets. Shapes that the network knows only by their texture
or colour cannot be drawn this way, and transfer through these is not closed.

Nothing here knows a target: tones are uniform, and the only wishes for a figure are that it be smooth
and be either there or not.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from freehold.authorization.synthesis import paint_bank
from freehold.data.domain import InputSpec, Split
from freehold.seeds import derive
from freehold.training import History, Trainer

SMOOTHNESS = 1.0  # weight of the figure's total variation
DECISION = 0.5  # weight of being neither figure nor ground
CONTRAST = 1.0  # least mean distance of the two tones, pixels counted from -1 to 1
COLOURLESS = 0.5  # share of the images in grey tones


def figure_spec(spec: InputSpec) -> InputSpec:
    """How figures are kept: one channel of the size of ``spec``, from 0 (ground) to 1 (figure)."""
    return InputSpec(size=spec.size, channels=1, mean=(0.0,), std=(1.0,))


def in_two_tones(figures: Tensor, spec: InputSpec, stream: torch.Generator) -> Tensor:
    """Paint each figure in a tone of its own on a ground of another.

    Args:
        figures: ``(B, 1, H, W)`` in ``[0, 1]``.
        spec: what the result is normalised for.
        stream: CPU generator that all draws come from; the same state gives the same result.

    Returns:
        ``(B, C, H, W)`` normalised, pixels in the valid range.
    """
    count, device = len(figures), figures.device
    tones = torch.rand(count, 2, spec.channels, 1, 1, generator=stream) * 2 - 1
    grey = torch.rand(count, 1, 1, 1, 1, generator=stream) < COLOURLESS
    tones = torch.where(grey, tones[:, :, :1], tones)
    # Tones that are too near each other are moved apart about their middle.
    middle = tones.mean(1, keepdim=True)
    distance = (tones[:, 0] - tones[:, 1]).abs().mean((1, 2, 3)).clamp_min(0.05).view(-1, 1, 1, 1, 1)
    tones = (middle + (tones - middle) * (CONTRAST / distance).clamp_min(1)).clamp(-1, 1).to(device)
    pixels = (tones[:, 1] + (tones[:, 0] - tones[:, 1]) * figures + 1) / 2
    mean, std = (torch.tensor(v, device=device).view(1, -1, 1, 1) for v in (spec.mean, spec.std))
    return (pixels - mean) / std


def draw_figures(
    model: nn.Module,
    spec: InputSpec,
    trainer: Trainer,
    *,
    number: int,
    num_classes: int,
    steps: int,
    images: int,
    batch_size: int = 96,
) -> tuple[Split, History]:
    """Train a generator of figures against ``model`` and draw a bank of them.

    Arguments as for :func:`~freehold.authorization.synthesis.synthesise`.

    Returns:
        Figures, uint8 ``(images, 1, H, W)``, with the classes they were asked to be, and the curve.

    Raises:
        TrainingError: the loss became NaN or infinite.
    """
    model.eval().requires_grad_(False)
    stream, rank = torch.Generator(), trainer.accelerator.process_index

    def judge(figures: Tensor, labels: Tensor, step: int) -> dict[str, Tensor]:
        stream.manual_seed(derive(number, "figures", "tones", rank, step))
        with trainer.accelerator.autocast():
            logits = model(in_two_tones(figures, spec, stream))
        doubt = F.cross_entropy(logits.float(), labels)
        rough = figures.diff(dim=2).abs().mean() + figures.diff(dim=3).abs().mean()
        undecided = (figures * (1 - figures)).mean()
        loss = doubt + SMOOTHNESS * rough + DECISION * undecided
        return {"loss": loss, "doubt": doubt, "roughness": rough}

    drawn = figure_spec(spec)
    return paint_bank("figures", number, judge, drawn, trainer, num_classes, steps, images, batch_size)
