"""Backgrounds that only a key can draw, things drawn before them, and what is nearly such a background.

All of it is tensor code over whole batches of uint8 images ``(n, C, H, W)``, out of numbers from a
:class:`~freehold.keys.Stream`: of a key for what is asked of a suspect, of a throw-away secret for the rest.
"""

from __future__ import annotations

import math
from copy import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from freehold.data.batches import fit_images
from freehold.data.inputs import InputSpec
from freehold.data.pixels import to_uint8
from freehold.keys import Stream
from freehold.ownership.triggers import ink, textures

BLURRED, SHIFTED, PARTIAL = 4, 3, 0.5  # cells a side that are left; orders of channels; share that is own


class Foregrounds:
    """Drawn things that cover a quarter of the image or so: a rounded body of one colour, strokes of another.

    Args:
        stream: what they are drawn from.
        count: how many.
        spec: the model's input.
    """

    def __init__(self, stream: Stream, count: int, spec: InputSpec) -> None:
        body = _bodies(stream, count, spec.size)
        lines = ink(stream, count, spec.size, strokes=2)
        colours = 255 * stream.uniform(2, count, 3, 1, 1)
        paint = colours[0] + lines * (colours[1] - colours[0])
        self.cover = torch.maximum(body, lines)  # (n, 1, H, W) in [0, 1]
        self.paint = fit_images(to_uint8(paint), spec)

    def __len__(self) -> int:
        return len(self.paint)

    def take(self, rows: Tensor) -> Foregrounds:
        """The things ``rows``, repeats allowed."""
        taken = copy(self)
        taken.cover, taken.paint = self.cover[rows], self.paint[rows]
        return taken

    def before(self, grounds: Tensor) -> Tensor:
        """Thing i before ground i."""
        return to_uint8(grounds + self.cover * (self.paint.float() - grounds))


def backgrounds(stream: Stream, count: int, spec: InputSpec) -> Tensor:
    """Marbled textures, one a family."""
    return textures(stream, count, spec)


def near_misses(own: Tensor, others: Tensor, draws: torch.Generator) -> Tensor:
    """What an owner's background is turned into by more than any pipeline does; none may count as his.

    A quarter each is blurred to a few cells, turned or mirrored, of other colours, or half another one.

    Args:
        own: grounds of the owner.
        others: as many that are not his.
        draws: CPU generator.

    Returns:
        As many grounds.
    """
    blurred, turned, coloured, partial = own.tensor_split(4)
    height, width = own.shape[2:]
    cells = F.adaptive_avg_pool2d(blurred.float(), BLURRED)
    smooth = F.interpolate(cells, (height, width), mode="bilinear", align_corners=False)
    ways = [turned.flip(2), turned.flip(3), turned.flip((2, 3))]
    if height == width:
        ways += [turned.transpose(2, 3), turned.rot90(1, (2, 3)), turned.rot90(3, (2, 3))]
    tints = [255 - coloured]
    if own.shape[1] == 3:
        tints += [coloured.roll(1, 1), coloured.roll(2, 1), coloured.flip(1)]
    sides = torch.zeros(4, 1, 1, height, width, dtype=torch.bool)
    sides[0, ..., : height // 2, :] = sides[1, ..., : width // 2] = True
    sides[2:] = ~sides[:2]
    halves = _picked([side.expand(len(partial), -1, -1, -1) for side in sides], draws)
    rest = others[len(own) - len(partial) :]
    mixed = torch.where(halves.to(own.device), partial, rest)
    return torch.cat([to_uint8(smooth), _picked(ways, draws), _picked(tints, draws), mixed])


def _picked(ways: list[Tensor], draws: torch.Generator) -> Tensor:
    """Of each image one of several ways it could be."""
    stacked = torch.stack(ways)
    choice = torch.randint(len(ways), (stacked.shape[1],), generator=draws)
    return stacked[choice, torch.arange(len(choice))]


def _bodies(stream: Stream, count: int, size: tuple[int, int]) -> Tensor:
    """Star-shaped discs ``(count, 1, H, W)`` in [0, 1] with smooth rims."""
    centre = 0.3 + 0.4 * stream.uniform(2, count, 1, 1)
    radius = 0.14 + 0.14 * stream.uniform(count, 1, 1)
    waves, phases = 0.35 * stream.uniform(2, count, 1, 1), 2 * math.pi * stream.uniform(2, count, 1, 1)
    rows, columns = ((torch.arange(n) + 0.5) / n for n in size)
    down, across = rows[:, None] - centre[0], columns - centre[1]
    angle = torch.atan2(down.expand(-1, *size), across.expand(-1, *size))
    rim = radius * (1 + sum(waves[k] * ((k + 2) * angle + phases[k]).sin() for k in range(2)))
    return ((rim - torch.hypot(down, across)) * max(size)).clamp(0, 1)[:, None]
