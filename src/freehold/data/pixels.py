"""uint8 images ``(N, C, H, W)``: one way to resize them, and one way to get them from what users hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from freehold.errors import DataError

_CHUNK_VALUES = 1024 * 3 * 32 * 32  # uint8 values worked on at once: bounds the float copies


def chunks(images: Tensor) -> tuple[Tensor, ...]:
    """``images`` in consecutive parts small enough to be copied to float; the cut depends on shapes only."""
    return torch.split(images, max(1, _CHUNK_VALUES // images[0].numel()))


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 ``(N, C, H, W)`` to ``size``: bilinear, antialiased when shrinking, rounded."""
    if tuple(images.shape[2:]) == size:
        return images
    shrinks = size[0] < images.shape[2] or size[1] < images.shape[3]
    return torch.cat(
        [to_uint8(F.interpolate(c.float(), size, mode="bilinear", antialias=shrinks)) for c in chunks(images)]
    )


def to_uint8(pixels: Tensor) -> Tensor:
    """Float levels to uint8, rounded and clamped to 0..255."""
    return pixels.round().clamp(0, 255).to(torch.uint8)


def gaussian_blur(pixels: Tensor, sigma: float, radius: int | None = None) -> Tensor:
    """Float ``(N, C, H, W)`` blurred, edges repeated; differentiable.

    Args:
        pixels: any range.
        sigma: standard deviation in pixels, above 0.
        radius: pixels on either side that count; three standard deviations by default.
    """
    reach = math.ceil(3 * sigma) if radius is None else radius
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.softmax(-0.5 * (offsets / sigma) ** 2, 0)

    def matrix(side: int) -> Tensor:  # row i holds the weights of the pixels that pixel i is the mean of
        sources = (torch.arange(side)[:, None] + offsets).clamp(0, side - 1)
        rows = torch.zeros(side, side).scatter_add_(1, sources, weights.expand(side, -1))
        return rows.to(pixels)

    return matrix(pixels.shape[2]) @ pixels @ matrix(pixels.shape[3]).T


def read_image(image: Any, where: str) -> Tensor:
    """One image as uint8 ``(C, H, W)``, C 1 or 3.

    Args:
        image: PIL image; uint8 or [0, 1] float tensor ``(C, H, W)`` or ``(H, W)``; the same as a numpy
            array ``(H, W, C)`` or ``(H, W)``.
        where: named in errors.

    Raises:
        DataError: another type, dtype or shape, NaN, values out of range.
    """
    if hasattr(image, "getbands"):
        return _from_pil(image, where)
    if isinstance(image, np.ndarray) and (image.dtype == np.uint8 or image.dtype.kind == "f"):
        native = image if image.dtype == np.uint8 else image.astype(np.float32)
        pixels = torch.from_numpy(np.ascontiguousarray(native))
        pixels = pixels.permute(2, 0, 1) if pixels.ndim == 3 else pixels
    elif isinstance(image, Tensor) and (image.dtype == torch.uint8 or image.is_floating_point()):
        pixels = image
    else:
        kind = f"{type(image).__name__} {getattr(image, 'dtype', '')}".strip()
        fix = "a dataset gives (image, label); images are PIL, uint8, or floats in [0, 1]"
        raise DataError(f"{kind} is no image", where=where, fix=fix)
    pixels = pixels[None] if pixels.ndim == 2 else pixels
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3) or 0 in pixels.shape:
        fix = "expected (C, H, W) tensors or (H, W, C) arrays with C 1 or 3"
        raise DataError(f"image of shape {tuple(image.shape)}", where=where, fix=fix)
    if pixels.dtype == torch.uint8:
        return pixels
    if not bool(((pixels >= 0) & (pixels <= 1)).all()):  # NaN fails this comparison too
        low, high = float(pixels.min()), float(pixels.max())
        fault = "NaN" if math.isnan(low) else f"values from {low:g} to {high:g}"
        fix = "floats must lie in [0, 1]: leave normalising to the InputSpec"
        raise DataError(f"image holds {fault}", where=where, fix=fix)
    return to_uint8(pixels * 255)


def _from_pil(image: Any, where: str) -> Tensor:
    from PIL import ImageOps

    if image.mode.startswith(("I", "F")):
        raise DataError(
            f"image of mode {image.mode} is not 8 bit", where=where, fix="save it with 8 bits a channel"
        )
    image = ImageOps.exif_transpose(image)
    image = image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def stack(images: Sequence[Tensor], names: Sequence[str], size: tuple[int, int] | None, where: str) -> Tensor:
    """uint8 ``(C, H, W)`` images as one tensor; grey only if all are grey.

    Args:
        images: at least one.
        names: what to call each in an error.
        size: resize to this; without it all images must be of one size.
        where: named in errors.
    """
    if size is not None:
        images = [resize(image[None], size)[0] for image in images]
    for image, name in zip(images, names, strict=True):
        if image.shape[1:] != images[0].shape[1:]:
            raise DataError(
                f"{name} is {_size(image)} pixels but {names[0]} is {_size(images[0])}",
                where=where,
                fix="pass image_size=... to bring all images to one size",
            )
    channels = max(image.shape[0] for image in images)
    return torch.stack([image.expand(channels, -1, -1) for image in images])


def _size(image: Tensor) -> str:
    return f"{image.shape[2]}x{image.shape[1]}"
