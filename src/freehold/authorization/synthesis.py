"""Images that a trained network takes for its own training data, made from the network alone.

A conditional generator is trained against the frozen network: its images must be put into the class
that was asked for, and must move every batch norm layer to the mean and deviation that the layer
stored in training. The idea of matching stored statistics is that of DeepInversion (Yin et al., CVPR
2020) and data-free distillation; weights, network and schedule are ours.

A network without stored statistics (plain VGG, LayerNorm, GroupNorm) leaves only its input contract
to match: the normalised image is then held to mean 0 and deviation 1 a channel, and to be smooth. Such
images are much further from the training data, and results made with them say so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from freehold.authorization.matching import StatisticsTap, statistics_gap
from freehold.data.batches import Batch, denormalise
from freehold.data.domain import InputSpec, Split
from freehold.seeds import derive, generator, global_draws
from freehold.training import History, Loop, Trainer

LATENT = 100
STATISTICS = 5.0  # weight of the statistics against the class
SMOOTHNESS = 0.5  # weight of the total variation, where nothing else is known of the images
LR = 2e-3


class Generator(nn.Module):
    """Latent vector and class to image: a linear layer, two doublings, tanh; any size and 1 or 3 channels.

    Each image gets a tone and a contrast of its own from the latent vector. Without them all variety ends
    up inside the images, which then look like noise of one average colour: stored statistics cannot tell
    variety within images from variety between them, and a convolutional network prefers the former.

    Takes codes ``(B, LATENT + K)``, gives images ``(B, C, H, W)`` normalised as the network expects.
    """

    def __init__(self, num_classes: int, spec: InputSpec) -> None:
        super().__init__()
        height, width = spec.size
        self.sizes = [(-(-height // part), -(-width // part)) for part in (4, 2, 1)]
        self.seed = nn.Linear(LATENT + num_classes, 128 * self.sizes[0][0] * self.sizes[0][1])
        self.first = nn.BatchNorm2d(128)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.LeakyReLU(0.2))
            for before, after in ((128, 32), (32, 16))
        )
        self.paint = nn.Conv2d(16, spec.channels, 3, padding=1)
        self.tone, self.contrast = nn.Linear(LATENT, spec.channels), nn.Linear(LATENT, 1)
        nn.init.normal_(self.tone.weight, std=0.6 / LATENT**0.5)
        nn.init.normal_(self.contrast.weight, std=0.5 / LATENT**0.5)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(spec.std).view(1, -1, 1, 1))

    def forward(self, codes: Tensor) -> Tensor:
        """Normalised images of pixels in ``[0, 1]``."""
        features = self.first(self.seed(codes).view(len(codes), 128, *self.sizes[0]))
        features = features.contiguous(memory_format=torch.channels_last)
        for size, stage in zip(self.sizes[1:], self.stages, strict=True):
            features = stage(F.interpolate(features, size))
        latent = codes[:, :LATENT]
        tone, contrast = self.tone(latent)[..., None, None], self.contrast(latent)[..., None, None].exp()
        pixels = ((self.paint(features) * contrast + tone).float().tanh() + 1) / 2
        images: Tensor = (pixels - self.mean) / self.std
        return images


class Codes:
    """Endless stream of latent vectors beside one-hot classes, all classes equally often.

    ``batch(step)`` is a pure function of ``(seed, step)``.
    """

    def __init__(self, num_classes: int, batch_size: int, seed: int, device: torch.device | str) -> None:
        self.num_classes, self.batch_size, self.seed, self.device = num_classes, batch_size, seed, device

    def batch(self, step: int) -> Batch:
        """``images`` holds codes ``(B, LATENT + K)``."""
        rows = torch.arange(self.batch_size) + step * self.batch_size
        labels = rows % self.num_classes
        latent = torch.randn(self.batch_size, LATENT, generator=generator(self.seed, "codes", step))
        codes = torch.cat([latent, F.one_hot(labels, self.num_classes).float()], 1)
        return Batch(codes.to(self.device), labels.to(self.device), rows.to(self.device))


def input_gap(images: Tensor) -> Tensor:
    """What is known without stored statistics: mean 0, deviation 1, and neighbouring pixels alike."""
    channels = images.shape[1]
    zeros, ones = torch.zeros(channels, device=images.device), torch.ones(channels, device=images.device)
    rough = (images.diff(dim=2).abs().mean() + images.diff(dim=3).abs().mean()) * SMOOTHNESS
    return statistics_gap(images, zeros, ones, 1e-5) + rough


def synthesise(
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
    """Train a generator against ``model``, draw a bank of images from it, and throw it away.

    Args:
        model: the trained network, in evaluation mode and on the trainer's device; not changed.
        spec: the network's input.
        trainer: runs the fit; gives the precision.
        number: of the generator: the root of all draws, and part of the fit's name.
        num_classes: K of the network's logits.
        steps: optimiser steps of the generator.
        images: how many to draw.
        batch_size: images a step.

    Returns:
        ``images`` uint8 images of ``spec``'s size with the classes they were asked to be, on the CPU,
        and the curve of the fit.

    Raises:
        TrainingError: the loss became NaN or infinite.
    """
    model.eval().requires_grad_(False)
    with StatisticsTap(model) as tap:

        def judge(painted: Tensor, labels: Tensor, step: int) -> dict[str, Tensor]:
            with trainer.accelerator.autocast():
                logits = model(painted)
            doubt = F.cross_entropy(logits.float(), labels)
            gap = tap.gaps().mean() if tap.layers else input_gap(painted)
            return {"loss": doubt + STATISTICS * gap, "doubt": doubt, "statistics": gap}

        return paint_bank("synthesis", number, judge, spec, trainer, num_classes, steps, images, batch_size)


def paint_bank(
    name: str,
    number: int,
    judge: Callable[[Tensor, Tensor, int], dict[str, Tensor]],
    spec: InputSpec,
    trainer: Trainer,
    num_classes: int,
    steps: int,
    images: int,
    batch_size: int,
) -> tuple[Split, History]:
    """Train a :class:`Generator` on the loss terms of ``judge(images, labels, step)`` and draw from it.

    The fit is called ``name-number``; both are the root of all draws.
    """
    with global_draws(number, name, "start"):
        painter = Generator(num_classes, spec)
    rank = trainer.accelerator.process_index
    codes = Codes(num_classes, batch_size, derive(number, name, "codes", rank), trainer.device)

    def objective(forward: nn.Module, batches: Mapping[str, Batch], step: int) -> dict[str, Tensor]:
        return judge(forward(batches["codes"].images), batches["codes"].labels, step)

    history = trainer.fit(
        painter,
        objective,
        {"codes": codes},
        Loop(steps=steps, lr=LR, schedule="one-cycle"),
        name=f"{name}-{number}",
        build=lambda parameters: torch.optim.Adam(parameters, LR, betas=(0.5, 0.99)),
    )
    drawn = Codes(num_classes, 256, derive(number, name, "bank"), trainer.device)
    batches = [drawn.batch(step) for step in range(-(-images // 256))]
    with torch.inference_mode(), trainer.accelerator.autocast():
        pixels = [denormalise(painter(batch.images), spec).cpu() for batch in batches]
    labels = torch.cat([batch.labels.cpu() for batch in batches])
    return Split(torch.cat(pixels)[:images].contiguous(), labels[:images].clone()), history
