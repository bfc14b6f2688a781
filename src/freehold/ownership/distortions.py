"""What happens to an image on its way to a stolen model: cut, resized, blurred, tinted, noisy, compressed."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from freehold.data.pixels import resize, to_uint8
from freehold.data.shifts import Blur, Quantize

SHARE = 0.5  # of the images that each step of the pipeline touches


def distorted(images: Tensor, draws: torch.Generator) -> Tensor:
    """A pipeline that does each of its steps to half of the images, another half each time.

    Args:
        images: uint8 ``(n, C, H, W)``, on any device.
        draws: CPU generator; strengths are drawn once a step of the pipeline, but for cut, tint and noise,
            which every image draws for itself.

    Returns:
        uint8 of the same shape.
    """
    images = images.clone()
    for step in (_cut, _resized, _blurred, _tinted, _noisy, _compressed):
        rows = torch.randperm(len(images), generator=draws)[: max(1, round(SHARE * len(images)))]
        rows = rows.to(images.device)
        images[rows] = step(images[rows], draws)
    return images


def _between(low: float, high: float, draws: torch.Generator, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=draws)


def _cut(images: Tensor, draws: torch.Generator) -> Tensor:
    """A part of 70 to 105 percent of each side, brought back to size; edges are repeated."""
    count = len(images)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = _between(0.7, 1.05, draws, count)
    theta[:, 1, 1] = (theta[:, 0, 0] * _between(0.93, 1.07, draws, count)).clamp_max(1.05)
    room = (1.05 - theta[:, [0, 1], [0, 1]]).clamp_min(0)
    theta[:, :, 2] = room * _between(-1, 1, draws, count, 2)
    grid = F.affine_grid(theta.to(images.device), list(images.shape), align_corners=False)
    return to_uint8(F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False))


def _resized(images: Tensor, draws: torch.Generator) -> Tensor:
    scale = float(_between(0.4, 0.95, draws, 1))
    height, width = images.shape[2:]
    smaller = (max(2, round(scale * height)), max(2, round(scale * width)))
    return resize(resize(images, smaller), (height, width))


def _blurred(images: Tensor, draws: torch.Generator) -> Tensor:
    scale = max(1.0, min(images.shape[2:]) / 32)
    return Blur(sigma=min(16.0, scale * float(_between(0.3, 1.2, draws, 1))))(images, draws)


def _tinted(images: Tensor, draws: torch.Generator) -> Tensor:
    """Brightness and contrast that a camera or a screen would change."""
    gain = _between(0.85, 1.15, draws, len(images), images.shape[1], 1, 1).to(images.device)
    offset = _between(-20, 20, draws, len(images), 1, 1, 1).to(images.device)
    return to_uint8(images * gain + offset)


def _noisy(images: Tensor, draws: torch.Generator) -> Tensor:
    deviation = _between(2, 25, draws, len(images), 1, 1, 1)
    noise = deviation * torch.randn(images.shape, generator=draws)
    return to_uint8(images + noise.to(images.device))


def _compressed(images: Tensor, draws: torch.Generator) -> Tensor:
    return Quantize(quality=int(_between(15, 90, draws, 1)))(images, draws)
