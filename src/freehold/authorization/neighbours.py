"""Neighbouring domains of a set of images: the same content in other looks, drawn anew at every step.

Which looks there are is decided without an eye on any target: they are the ways in which two image
collections of the same objects differ before the objects do, one family an axis.

* tone and contrast: each channel's mean and spread;
* polarity: dark on light or light on dark, for all channels or each for itself;
* colour: none at all;
* texture: what a random small filter leaves of the local structure;
* sharpness: blur;
* figure and ground: the figure cut out by its brightness, without what lies inside and around it.

Geometry is left out on purpose: a turned or squeezed object is often still the source domain.
A look that destroys the content must not count as a neighbour, so whoever uses these asks the unprotected
model whether it still sees the same class (:func:`checked`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from freehold.data.domain import InputSpec

Style = Callable[[Tensor, torch.Generator], Tensor]
GREY = 0.3  # share of all images that lose their colour in the end, on top of their style


def neighbours(
    images: Tensor, spec: InputSpec, stream: torch.Generator, styles: Sequence[Style] | None = None
) -> Tensor:
    """Each image in another look; consecutive equal parts of the batch get one family each.

    Args:
        images: ``(B, C, H, W)`` normalised by ``spec``, in random order.
        spec: mean and deviation that the images were normalised with.
        stream: CPU generator that all draws come from; the same state gives the same result.
        styles: the families; all by default.

    Returns:
        The same shape, normalised, pixels within the valid range.
    """
    styles = STYLES if styles is None else styles
    shape = (1, -1, 1, 1)
    mean, std = (torch.tensor(v, device=images.device).view(shape) for v in (spec.mean, spec.std))
    centred = 2 * (images * std + mean) - 1
    parts = [part for part in centred.tensor_split(len(styles)) if len(part)]
    styled = torch.cat([style(part, stream) for style, part in zip(styles, parts, strict=False)])
    colourless = _uniform(len(images), (0, 1), stream, images.device) < GREY
    styled = torch.where(colourless, _grey(styled), styled).clamp(-1, 1)
    return ((styled + 1) / 2 - mean) / std


def checked(ask: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The images in which the unprotected model sees their labels, repeated to fill the batch.

    The rows that pass stand in for those that do not, so that the shape is fixed and nothing waits for a
    count. Where none passes, all rows are one that did not.

    Args:
        ask: the unprotected model's logits of images.
        images: ``(B, C, H, W)`` normalised.
        labels: ``(B,)`` what has to be seen in them.

    Returns:
        Images and labels, each with B rows.
    """
    passes = ask(images).argmax(1) == labels
    order = passes.int().argsort(descending=True, stable=True)
    rows = order[torch.arange(len(labels), device=labels.device) % passes.sum().clamp_min(1)]
    return images[rows], labels[rows]


def _tone(images: Tensor, stream: torch.Generator) -> Tensor:
    """New mean and spread for each channel of each image."""
    count = images.shape[:2]
    mean = _uniform(count.numel(), (-0.8, 0.8), stream, images.device).view(*count, 1, 1)
    spread = _uniform(count.numel(), (0.15, 0.75), stream, images.device).view(*count, 1, 1)
    centred = images - images.mean((2, 3), keepdim=True)
    deviation = centred.square().mean((2, 3), keepdim=True).sqrt()
    return centred / (deviation + 0.05) * spread + mean


def _polarity(images: Tensor, stream: torch.Generator) -> Tensor:
    """The negative, of all channels or of a random choice of them."""
    signs = _uniform(len(images) * images.shape[1], (-1, 1), stream, images.device).sign()
    whole = _uniform(len(images), (0, 1), stream, images.device) < 0.5
    return images * torch.where(whole, -1.0, signs.view(*images.shape[:2], 1, 1))


def _colourless(images: Tensor, stream: torch.Generator) -> Tensor:
    """Grey, then another tone."""
    return _grey(_tone(_grey(images), stream))


def _texture(images: Tensor, stream: torch.Generator) -> Tensor:
    """A random filter of 1, 3 or 5 pixels across all channels, mixed with the original."""
    count, channels, height, width = images.shape
    side = (1, 3, 5)[int(torch.randint(3, (1,), generator=stream))]
    fan = channels * side * side
    size = (count * channels, channels, side, side)
    kernel = (torch.randn(size, generator=stream) / fan**0.5).to(images.device)
    flat = images.reshape(1, count * channels, height, width)
    padded = F.pad(flat, [side // 2] * 4, mode="replicate")
    filtered = F.conv2d(padded, kernel, groups=count).view_as(images)
    share = _uniform(count, (0.3, 1), stream, images.device)
    return share * filtered + (1 - share) * images


def _sharpness(images: Tensor, stream: torch.Generator) -> Tensor:
    """Blurred, then another tone."""
    return _tone(_blur(images), stream)


def _figure(images: Tensor, stream: torch.Generator) -> Tensor:
    """A soft cut at a random quantile of the blurred brightness, of random polarity."""
    grey = _blur(images.mean(1, keepdim=True))
    quantile = _uniform(len(images), (0.45, 0.8), stream, images.device)
    ordered = grey.flatten(1).sort(1).values
    row = (quantile.view(-1, 1) * (ordered.shape[1] - 1)).long()
    edge = ordered.gather(1, row).view(-1, 1, 1, 1)
    gain = _uniform(len(images), (4, 15), stream, images.device)
    sign = _uniform(len(images), (-1, 1), stream, images.device).sign()
    return (sign * gain * (grey - edge)).tanh().expand_as(images)


STYLES: tuple[Style, ...] = (_texture, _tone, _colourless, _polarity, _figure, _sharpness)
BARE: tuple[Style, ...] = (_colourless, _figure)  # those that take away the most and leave the shape


def _grey(images: Tensor) -> Tensor:
    return images.mean(1, keepdim=True).expand_as(images)


def _blur(images: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


def _uniform(
    count: int, bounds: tuple[float, float], stream: torch.Generator, device: torch.device
) -> Tensor:
    """``(count, 1, 1, 1)`` uniform draws."""
    draws = torch.rand(count, 1, 1, 1, generator=stream) * (bounds[1] - bounds[0]) + bounds[0]
    return draws.to(device)
