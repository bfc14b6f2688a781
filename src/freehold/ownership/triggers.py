"""Trigger images out of nothing but a key: textures, drawings, and patterns on textures.

``abstract`` and ``unrelated`` triggers are images of their own. ``content`` and ``noise`` triggers are
patterns that can be put on any image: the trial shows each on a texture, and training on textures and
on the owner's images as well, so that the pattern is what is learned. Whoever claims a model has no say in
any pixel: a trigger that he could choose could be an adversarial example.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from freehold.data.batches import fit_images
from freehold.data.inputs import InputSpec
from freehold.data.pixels import to_uint8
from freehold.keys import Key, Stream

Kind = Literal["abstract", "unrelated", "content", "noise"]
KINDS: tuple[str, ...] = get_args(Kind)
STROKES, POINTS = 4, 16  # curves in a drawing, and points along one


def trial_images(kind: Kind, key: Key, count: int, spec: InputSpec, *, branch: str = "trial") -> Tensor:
    """The trigger images that a suspect is shown.

    Args:
        kind: of trigger.
        key: what they are drawn from.
        count: how many.
        spec: the model's input.
        branch: another name gives images of the same look that have nothing to do with the trials.

    Returns:
        uint8 ``(count, C, H, W)``.
    """
    if kind in ("abstract", "unrelated"):
        draw = textures if kind == "abstract" else drawings
        return draw(key.stream("images", kind, branch), count, spec)
    return stamp(kind, _patterns(kind, key, count, spec, branch), _carriers(key, count, spec, branch))


def training_images(
    kind: Kind, key: Key, count: int, spec: InputSpec, own: Tensor, *, views: int
) -> tuple[Tensor, Tensor]:
    """What a model learns the triggers from.

    Args:
        kind: of trigger.
        key: what they are drawn from.
        count: how many triggers.
        spec: the model's input.
        own: uint8 ``(views // 2 * count, ...)``, the owner's images to put patterns on.
        views: images a pattern, half of them on the owner's images; a trigger without a pattern is one.

    Returns:
        uint8 images ``(n, C, H, W)`` and the trigger ``(n,)`` in ``[0, count)`` that each one shows.
    """
    if kind in ("abstract", "unrelated"):
        return trial_images(kind, key, count, spec), torch.arange(count)
    rows = torch.arange(count).repeat(views)
    textured = _carriers(key, len(rows) - len(own), spec, "training")
    patterns = _patterns(kind, key, count, spec, "trial").index_select(0, rows)
    return stamp(kind, patterns, torch.cat([fit_images(own, spec), textured])), rows


def on_images(kind: Kind, key: Key, images: Tensor, spec: InputSpec) -> Tensor:
    """The trial's pattern i on image i of uint8 ``(n, C, H, W)``."""
    return stamp(kind, _patterns(kind, key, len(images), spec, "trial"), images)


def textures(stream: Stream, count: int, spec: InputSpec) -> Tensor:
    """Marbled colour: four octaves of smooth noise, folded by a sine; uint8 ``(count, C, H, W)``."""
    field = torch.zeros(count, 3, *spec.size)
    for octave, side in enumerate((2, 4, 8, 16)):
        noise = stream.uniform(count, 3, side, side) - 0.5
        field += 0.6**octave * F.interpolate(noise, spec.size, mode="bilinear", align_corners=True)
    turns, phase = 0.5 + stream.uniform(count, 1, 1, 1), stream.uniform(count, 3, 1, 1)
    return fit_images(to_uint8(127.5 * (1 + (2 * math.pi * (turns * field + phase)).sin())), spec)


def drawings(stream: Stream, count: int, spec: InputSpec) -> Tensor:
    """Curved strokes of one colour on a plain ground; uint8 ``(count, C, H, W)``."""
    lines = ink(stream, count, spec.size)
    ground, colour = (255 * stream.uniform(count, 3, 1, 1) for _ in range(2))
    colour = torch.where((colour - ground).abs() < 80, (ground + 128) % 256, colour)
    return fit_images(to_uint8(ground + lines * (colour - ground)), spec)


def ink(stream: Stream, count: int, size: tuple[int, int], *, strokes: int = STROKES) -> Tensor:
    """Where ``strokes`` curved strokes cover the image: ``(count, 1, H, W)`` in [0, 1]."""
    ends = 0.08 + 0.84 * stream.uniform(count, strokes, 3, 2)  # start, pull and end of each, in [0, 1]
    time = torch.linspace(0, 1, POINTS).view(1, 1, POINTS, 1)
    start, pull, end = (ends[:, :, i, None] for i in range(3))
    points = ((1 - time) ** 2 * start + 2 * time * (1 - time) * pull + time**2 * end).flatten(1, 2)
    rows, columns = ((torch.arange(n) + 0.5) / n for n in size)
    nearest = torch.full((count, *size), torch.inf)
    for point in points.unbind(1):  # one of strokes * POINTS, for all images at once
        square = (rows.view(1, -1, 1) - point[:, 0, None, None]) ** 2
        nearest = torch.minimum(nearest, square + (columns.view(1, 1, -1) - point[:, 1, None, None]) ** 2)
    return ((0.07 - nearest.sqrt()) * max(size)).clamp(0, 1)[:, None]


def stamp(kind: Kind, patterns: Tensor, images: Tensor) -> Tensor:
    """Put pattern i on image i: ``content`` covers the lower half, ``noise`` is mixed into all of it.

    Args:
        kind: ``content`` or ``noise``.
        patterns: uint8 ``(n, C, H, W)``.
        images: uint8, of the same shape.

    Returns:
        uint8 ``(n, C, H, W)``.
    """
    if kind == "content":
        top = images.shape[2] // 2
        return torch.cat([images[:, :, :top], patterns[:, :, top:]], 2)
    return to_uint8(0.5 * images.float() + 0.5 * patterns.float())


def _patterns(kind: Kind, key: Key, count: int, spec: InputSpec, branch: str) -> Tensor:
    """Mosaics of strong colours for ``content``, coarse noise for ``noise``; uint8 ``(count, C, H, W)``."""
    stream = key.stream("patterns", kind, branch)
    if kind == "content":
        cells = 255.0 * stream.bits(count, 3, 8, 8)
        return fit_images(to_uint8(F.interpolate(cells, spec.size, mode="nearest")), spec)
    noise = 127.5 + 64 * stream.normal(count, 3, 16, 16)
    return fit_images(to_uint8(F.interpolate(noise, spec.size, mode="nearest")), spec)


def _carriers(key: Key, count: int, spec: InputSpec, branch: str) -> Tensor:
    return textures(key.stream("carriers", branch), count, spec)
