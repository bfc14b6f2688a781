"""Input filters: what a thief's service does to every image before the stolen model sees it."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from freehold.attacks.base import Attack, Taken
from freehold.data.domain import Domain, InputSpec
from freehold.data.pixels import gaussian_blur, to_uint8
from freehold.data.shifts import Quantize
from freehold.plugin import Access, Card
from freehold.training import Trainer


class Filter(Attack):
    """Puts a filter before the model; what hides in fine detail of the image is lost."""

    name = "filter"
    access: ClassVar[Access] = Access.LABELS
    card: ClassVar[Card] = Card(
        title="Input filters",
        paper="SoK: How Robust is Image Classification Deep Neural Network Watermarking?",
        venue="IEEE S&P 2022",
        goal="Wash every image before the model sees it, so that triggers do not arrive whole.",
        changed=("strengths are relative, so that they fit images of any size",),
        undisclosed=("strengths differ between toolkits; the defaults cost clean accuracy little",),
        needs=("nothing but the service itself",),
        breaks=("triggers that survive resizing and compression, as photographs of them would",),
    )
    stronger: ClassVar[dict[str, Any]] = {"strength": 2.0}

    filter: Literal["blur", "median", "depth", "noise", "crop", "jpeg"] = Field(
        "blur", description="Gaussian blur, 3x3 median, fewer grey levels, noise, crop and resize, JPEG"
    )
    strength: float = Field(1.0, gt=0, le=4, description="1 is mild; doubles what is lost")

    def _run(self, model: nn.Module, domain: Domain, spec: InputSpec, trainer: Trainer) -> Taken:
        return Taken(Filtered(model, self.filter, self.strength, spec).to(trainer.device))


class Filtered(nn.Module):
    """A model behind a filter; takes and gives what the model does."""

    def __init__(self, model: nn.Module, kind: str, strength: float, spec: InputSpec) -> None:
        super().__init__()
        self.model, self.kind, self.strength = model, kind, strength
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(spec.std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, K)`` of the filtered images."""
        pixels = (images * self.std + self.mean).clamp(0, 1)
        logits: Tensor = self.model((FILTERS[self.kind](pixels, self.strength) - self.mean) / self.std)
        return logits


def blur(pixels: Tensor, strength: float) -> Tensor:
    """Gaussian of ``0.5 * strength`` pixels at 32 pixels, more on larger images."""
    return gaussian_blur(pixels, 0.5 * strength * max(1.0, pixels.shape[-1] / 32))


def median(pixels: Tensor, strength: float) -> Tensor:
    """Median of each pixel's 3x3 surroundings, ``strength`` times over."""
    batch, channels, height, width = pixels.shape
    for _ in range(max(1, round(strength))):
        windows = F.unfold(F.pad(pixels, [1] * 4, mode="replicate"), 3)
        pixels = windows.view(batch, channels, 9, height, width).median(2).values
    return pixels


def depth(pixels: Tensor, strength: float) -> Tensor:
    """``2^(5 - strength)`` levels."""
    top = 2 ** (5 - strength) - 1
    return (pixels * top).round() / top


def noise(pixels: Tensor, strength: float) -> Tensor:
    """Gaussian noise of deviation ``0.03 * strength``, the same for the same image."""
    draws = torch.Generator().manual_seed(0)
    pattern = torch.randn(pixels.shape[1:], generator=draws).to(pixels)
    return (pixels + 0.03 * strength * pattern).clamp(0, 1)


def crop(pixels: Tensor, strength: float) -> Tensor:
    """Cut ``strength`` sixteenths off each side and resize."""
    rows, columns = (max(1, round(strength * side / 16)) for side in pixels.shape[-2:])
    inner = pixels[..., rows:-rows, columns:-columns]
    return F.interpolate(inner, pixels.shape[-2:], mode="bilinear", align_corners=False)


def jpeg(pixels: Tensor, strength: float) -> Tensor:
    """JPEG of quality ``90 - 20 * strength``: blocks of whole batches, colour at half the resolution.

    Both tables are the standard's for brightness; packing the numbers, which loses nothing, is left out.
    """
    table = Quantize(quality=max(5, round(90 - 20 * strength)))
    unused = torch.Generator()

    def coded(levels: Tensor) -> Tensor:
        return table(to_uint8(levels), unused).float()

    if pixels.shape[1] == 1:
        return coded(pixels * 255) / 255
    basis = torch.tensor(_YCC, device=pixels.device)
    planes = torch.einsum("oc,bchw->bohw", basis, pixels * 255)
    colour = coded(F.avg_pool2d(planes[:, 1:], 2, ceil_mode=True) + 128) - 128
    colour = F.interpolate(colour, scale_factor=2, mode="bilinear", align_corners=False)
    colour = colour[..., : pixels.shape[-2], : pixels.shape[-1]]
    planes = torch.cat([coded(planes[:, :1]), colour], 1)
    decoded = torch.einsum("oc,bchw->bohw", torch.linalg.inv(basis), planes)
    return (decoded / 255).clamp(0, 1).to(pixels)


# Brightness, blueness and redness of red, green and blue (ITU-T T.871).
_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
FILTERS = {"blur": blur, "median": median, "depth": depth, "noise": noise, "crop": crop, "jpeg": jpeg}
