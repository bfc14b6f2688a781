"""Domain shifts: seeded transforms of whole uint8 batches, to be composed by ``domain.shifted(...)``."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Generator, Tensor

from freehold.data.photographs import patches
from freehold.data.pixels import gaussian_blur, to_uint8
from freehold.errors import DataError, UsageError
from freehold.settings import Settings, nearest


class Shift(Settings):
    """A change of appearance that keeps the label; the same generator state gives the same result."""

    name: ClassVar[str]

    @final
    def __call__(self, images: Tensor, stream: Generator) -> Tensor:
        """The shifted batch.

        Args:
            images: uint8 ``(B, C, H, W)``, on any device.
            stream: CPU generator that all draws come from.

        Returns:
            uint8 of the same shape, but that colour and texture make three channels out of one.
        """
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise DataError(
                f"expected uint8 (B, C, H, W), got {images.dtype} {tuple(images.shape)}",
                where=f"shift {self.name}",
            )
        return to_uint8(self._levels(images.float(), stream))

    @abstractmethod
    def _levels(self, pixels: Tensor, stream: Generator) -> Tensor:
        """Float ``(B, C, H, W)`` in 0..255 to float levels; rounded and clamped by the caller."""

    def __str__(self) -> str:
        values = ", ".join(f"{value:g}" for value in self.model_dump().values())
        return f"{self.name}({values})" if values else self.name


class Rotate(Shift):
    """Rotation about the centre, bilinear; what comes in from outside mirrors the inside."""

    name: ClassVar[str] = "rotate"
    degrees: float = Field(
        30, ge=-180, le=180, description="anticlockwise angle", json_schema_extra={"unit": "degrees"}
    )

    def _levels(self, pixels: Tensor, stream: Generator) -> Tensor:
        height, width = pixels.shape[2:]
        cosine, sine = math.cos(math.radians(self.degrees)), math.sin(math.radians(self.degrees))
        # Grid coordinates run -1..1 along both sides, so a turn in pixels needs the aspect ratio.
        turn = [[cosine, -sine * height / width, 0.0], [sine * width / height, cosine, 0.0]]
        theta = torch.tensor(turn, device=pixels.device).expand(len(pixels), 2, 3)
        grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
        return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


class Invert(Shift):
    """The negative."""

    name: ClassVar[str] = "invert"

    def _levels(self, pixels: Tensor, stream: Generator) -> Tensor:
        return 255 - pixels


class Colour(Shift):
    """Random black and white point per image and channel: tinted ink on tinted paper, never inverted."""

    name: ClassVar[str] = "colour"
    strength: float = Field(
        0.8,
        gt=0,
        le=1,
        description="black points are drawn from 0..s/2, white points from 1-s/2..1",
        json_schema_extra={"unit": "share of the range"},
    )

    def _levels(self, pixels: Tensor, stream: Generator) -> Tensor:
        draws = torch.rand(2, len(pixels), 3, 1, 1, generator=stream).to(pixels.device) * self.strength / 2
        black, white = 255 * draws[0], 255 * (1 - draws[1])
        return black + (white - black) * pixels / 255


class Texture(Shift):
    """Absolute difference with random patches of scikit-learn's two photographs, as MNIST-M was made."""

    name: ClassVar[str] = "texture"
    strength: float = Field(
        1.0,
        gt=0,
        le=1,
        description="brightness of the photograph before it is blended",
        json_schema_extra={"unit": "share of the photograph"},
    )

    def _levels(self, pixels: Tensor, stream: Generator) -> Tensor:
        ground = patches(len(pixels), (pixels.shape[2], pixels.shape[3]), stream).to(pixels.device)
        return (pixels - self.strength * ground).abs()


class Blur(Shift):
    """Gaussian blur, edges repeated."""

    name: ClassVar[str] = "blur"
    sigma: float = Field(
        1.0, gt=0, le=16, description="standard deviation", json_schema_extra={"unit": "pixels"}
    )

    def _levels(self, pixels: Tensor, stream: Generator) -> Tensor:
        return gaussian_blur(pixels, self.sigma)


class Noise(Shift):
    """Independent Gaussian noise on every value."""

    name: ClassVar[str] = "noise"
    std: float = Field(
        20, gt=0, le=255, description="standard deviation", json_schema_extra={"unit": "levels of 255"}
    )

    def _levels(self, pixels: Tensor, stream: Generator) -> Tensor:
        return pixels + self.std * torch.randn(pixels.shape, generator=stream).to(pixels.device)


class Contrast(Shift):
    """Distance from the image's mean level, scaled."""

    name: ClassVar[str] = "contrast"
    factor: float = Field(
        0.5, ge=0.01, le=10, description="1 keeps the image", json_schema_extra={"unit": "factor"}
    )

    def _levels(self, pixels: Tensor, stream: Generator) -> Tensor:
        mean = pixels.mean((1, 2, 3), keepdim=True)
        return mean + self.factor * (pixels - mean)


class Quantize(Shift):
    """JPEG-like loss: 8x8 block DCT of each channel, rounded to the luminance table at a quality.

    ITU-T T.81 table K.1 with the scaling of the IJG's library. No chroma subsampling.
    """

    name: ClassVar[str] = "quantize"
    quality: int = Field(20, ge=1, le=100, description="as in JPEG", json_schema_extra={"unit": "percent"})

    def _levels(self, pixels: Tensor, stream: Generator) -> Tensor:
        count, channels, height, width = pixels.shape
        padded = F.pad(pixels, (0, -width % 8, 0, -height % 8), mode="replicate") - 128
        tall, wide = padded.shape[2] // 8, padded.shape[3] // 8
        blocks = padded.view(count, channels, tall, 8, wide, 8).transpose(3, 4)
        basis, table = _dct_basis().to(pixels.device), self._table().to(pixels.device)
        coefficients = basis @ blocks @ basis.T
        blocks = basis.T @ ((coefficients / table).round() * table) @ basis
        return blocks.transpose(3, 4).reshape(padded.shape)[:, :, :height, :width] + 128

    def _table(self) -> Tensor:
        scale = 5000 // self.quality if self.quality < 50 else 200 - 2 * self.quality
        return ((torch.tensor(_LUMINANCE) * scale + 50) // 100).clamp(1, 255).float().view(8, 8)


def _dct_basis() -> Tensor:
    """Orthonormal DCT-II matrix (8, 8): row k is the k-th cosine."""
    k, n = torch.arange(8.0)[:, None], torch.arange(8.0)
    basis = torch.cos(math.pi * (2 * n + 1) * k / 16) / 2
    basis[0] /= math.sqrt(2)
    return basis


# fmt: off
_LUMINANCE = (
    16, 11, 10, 16,  24,  40,  51,  61,
    12, 12, 14, 19,  26,  58,  60,  55,
    14, 13, 16, 24,  40,  57,  69,  56,
    14, 17, 22, 29,  51,  87,  80,  62,
    18, 22, 37, 56,  68, 109, 103,  77,
    24, 35, 55, 64,  81, 104, 113,  92,
    49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103,  99,
)
# fmt: on

SHIFTS: dict[str, type[Shift]] = {
    shift.name: shift for shift in (Rotate, Invert, Colour, Texture, Blur, Noise, Contrast, Quantize)
}


def parse_shift(text: str) -> Shift:
    """``"rotate=30"`` or ``"rotate"`` (its default) to the shift.

    Raises:
        UsageError: no such shift, with the nearest name; or a value where none belongs.
        ConfigError: the value is no number or out of range.
    """
    name, given, value = (part.strip() for part in text.partition("="))
    if name not in SHIFTS:
        raise UsageError(f"unknown shift {name!r}", where="shift", fix=nearest(name, SHIFTS))
    fields = list(SHIFTS[name].model_fields)
    if given and not fields:
        raise UsageError(
            f"shift {name!r} takes no value, got {value!r}", where="shift", fix=f"write {name!r}"
        )
    return SHIFTS[name](**({fields[0]: value} if given else {}))
