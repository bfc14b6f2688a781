"""Batches for training and evaluation out of one uint8 tensor that stays on the training device.

Resizing and channel conversion happen once, when the stream is built; a step costs one gather, one
optional augmentation and one normalisation, each over the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from pydantic import Field
from torch import Tensor

from freehold.data.domain import InputSpec, Split
from freehold.data.pixels import chunks, resize, to_uint8
from freehold.errors import UsageError
from freehold.seeds import generator
from freehold.settings import Settings

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, what PIL's "L" uses


@dataclass(frozen=True)
class Batch:
    """One step's data.

    Args:
        images: float32 ``(B, C, H, W)``, normalised.
        labels: int64 ``(B,)``.
        indices: int64 ``(B,)``, row numbers in the split, for outputs cached per image.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int) -> Batch:
        """Its first ``count`` samples, or all if it has fewer."""
        return Batch(self.images[:count], self.labels[:count], self.indices[:count])


class Augment(Settings):
    """Random changes to training images; every sample draws its own."""

    shift: int = Field(
        0, ge=0, le=64, description="translation by up to this many pixels each way, edges repeated"
    )
    flip: bool = Field(False, description="mirror left-right half the time")


def fit_images(images: Tensor, spec: InputSpec) -> Tensor:
    """Bring uint8 ``(N, C, H, W)`` to the size and channels of ``spec``; uint8 again.

    Bilinear, antialiased when shrinking. Grey is repeated; colour becomes BT.601 luma.
    """
    if images.shape[1] > spec.channels:
        weights = torch.tensor(_LUMA, device=images.device).view(1, 3, 1, 1)
        images = torch.cat([to_uint8((part * weights).sum(1, keepdim=True)) for part in chunks(images)])
    return resize(images, spec.size).expand(-1, spec.channels, -1, -1).contiguous()


def normalise(images: Tensor, spec: InputSpec, *, channels_last: bool = False) -> Tensor:
    """uint8 ``(B, C, H, W)`` to float32 ``(pixel / 255 - mean) / std``, contiguous or channels-last."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    scale, offset = _scale_and_offset(spec, images.device)
    return images.to(torch.float32, memory_format=layout).mul_(scale).sub_(offset)


def denormalise(images: Tensor, spec: InputSpec) -> Tensor:
    """The inverse of :func:`normalise`, rounded and clamped to uint8."""
    scale, offset = _scale_and_offset(spec, images.device)
    return to_uint8((images + offset) / scale)


@lru_cache(maxsize=8)  # so that a step on a GPU copies nothing over
def _scale_and_offset(spec: InputSpec, device: torch.device) -> tuple[Tensor, Tensor]:
    mean, std = torch.tensor(spec.mean).view(1, -1, 1, 1), torch.tensor(spec.std).view(1, -1, 1, 1)
    return (1 / (255 * std)).to(device), (mean / std).to(device)


class Batches:
    """Endless deterministic stream: ``batch(step)`` is a pure function of ``(seed, step)``.

    The stream is one shuffled pass over the split after another, cut into batches; a batch may straddle
    two passes, and a batch larger than the split takes several. Resuming at a step therefore needs no state.

    Args:
        split: images and labels.
        spec: the model's input.
        batch_size: images a step over all processes.
        seed: root of the order and of the augmentation.
        device: where the split is kept.
        augment: random changes to each image.
        shard: ``(rank, world)``; this process gets the rank-th contiguous part of every global batch.

    Raises:
        UsageError: ``batch_size`` is not positive or not divisible by ``world``, or an impossible shard.
    """

    def __init__(
        self,
        split: Split,
        spec: InputSpec,
        batch_size: int,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        augment: Augment | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        rank, world = shard
        if not 0 <= rank < world:
            raise UsageError(f"shard {shard} is not (rank, world) with 0 <= rank < world", where="shard")
        if batch_size < 1 or batch_size % world:
            raise UsageError(
                f"a batch of {batch_size} cannot be shared by {world} processes",
                where="batch_size",
                fix=f"use a positive multiple of {world}",
            )
        self.spec, self.batch_size, self.seed, self.augment = spec, batch_size, seed, augment
        self.images = fit_images(split.images, spec).to(device)
        self.labels = split.labels.to(device)
        part = batch_size // world
        self._part = slice(rank * part, (rank + 1) * part)
        self._order: tuple[int, Tensor] = (-1, self.labels)

    @property
    def batches_per_epoch(self) -> int:
        """Steps after which every image was seen at least once."""
        return -(-len(self.labels) // self.batch_size)

    def batch(self, step: int) -> Batch:
        """This process's part of the batch of ``step`` (0, 1, ...)."""
        rows = self._rows(step)
        images = self.images.index_select(0, rows)  # forty times faster than self.images[rows] on CPU
        if self.augment is not None:
            images = self._augmented(images, self.augment, step)
        return Batch(normalise(images, self.spec), self.labels.index_select(0, rows), rows)

    def _rows(self, step: int) -> Tensor:
        first = step * self.batch_size
        position, stop = first + self._part.start, first + self._part.stop
        pieces = []
        while position < stop:
            epoch, offset = divmod(position, len(self.labels))
            pieces.append(self._permutation(epoch)[offset : offset + stop - position])
            position += len(pieces[-1])
        return torch.cat(pieces)

    def _permutation(self, epoch: int) -> Tensor:
        if self._order[0] != epoch:
            order = torch.randperm(len(self.labels), generator=generator(self.seed, "order", epoch))
            self._order = (epoch, order.to(self.labels.device))
        return self._order[1]

    def _augmented(self, images: Tensor, augment: Augment, step: int) -> Tensor:
        # Draws are made for the global batch, so that a sample's fate does not depend on the sharding.
        stream, device = generator(self.seed, "augment", step), images.device
        if augment.shift:
            size = (2, self.batch_size)
            moves = torch.randint(-augment.shift, augment.shift + 1, size, generator=stream)[:, self._part]
            images = _translate(images, moves.to(device))
        if augment.flip:
            flips = (torch.rand(self.batch_size, generator=stream) < 0.5)[self._part].to(device)
            images = torch.where(flips.view(-1, 1, 1, 1), images.flip(3), images)
        return images


def _translate(images: Tensor, moves: Tensor) -> Tensor:
    """Move image i of ``(B, C, H, W)`` down by ``moves[0, i]`` and right by ``moves[1, i]`` pixels."""
    count, channels, height, width = images.shape
    rows = (torch.arange(height, device=images.device) - moves[0, :, None]).clamp(0, height - 1)
    columns = (torch.arange(width, device=images.device) - moves[1, :, None]).clamp(0, width - 1)
    origin = (rows[:, :, None] * width + columns[:, None, :]).view(count, 1, -1).expand(-1, channels, -1)
    return images.flatten(2).gather(2, origin).view_as(images)


def sequential(
    split: Split,
    spec: InputSpec,
    batch_size: int = 512,
    *,
    device: torch.device | str = "cpu",
    limit: int | None = None,
) -> Iterator[Batch]:
    """The split (its first ``limit`` images) in order, for evaluation; the last batch may be smaller."""
    stop = len(split) if limit is None else min(limit, len(split))
    for start in range(0, stop, batch_size):
        rows = torch.arange(start, min(start + batch_size, stop))
        images = fit_images(split.images[start : start + len(rows)].to(device), spec)
        labels = split.labels[start : start + len(rows)].to(device)
        yield Batch(normalise(images, spec), labels, rows.to(device))
