"""Random patches of the two photographs that scikit-learn ships (china.jpg, flower.jpg, 640x427 RGB)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

WIDTH = 640


@lru_cache(maxsize=1)
def _photographs() -> Tensor:
    """uint8 ``(3, 2, 427, 640)``: channel first, so that a gather serves a whole channel plane."""
    from sklearn.datasets import load_sample_images

    return torch.from_numpy(np.stack(load_sample_images().images)).permute(3, 0, 1, 2).contiguous()


def patches(
    count: int,
    size: tuple[int, int],
    stream: Generator,
    *,
    columns: Sequence[tuple[int, int]] = ((0, WIDTH),),
) -> Tensor:
    """``count`` random patches, uint8 ``(count, 3, *size)``, at native resolution.

    Args:
        count: how many.
        size: height and width; if larger than a photograph the photographs are enlarged to it.
        stream: source of the draws.
        columns: half-open column ranges, each at least a patch wide; no patch leaves its range.
    """
    photos, (height, width) = _photographs(), size
    if height > photos.shape[2] or width > WIDTH:
        enlarged = (max(height, photos.shape[2]), max(width, WIDTH))
        photos = F.interpolate(photos.float(), enlarged, mode="bilinear").to(torch.uint8)
        columns = ((0, enlarged[1]),)
    ranges = torch.tensor(columns)[torch.randint(len(columns), (count,), generator=stream)]
    which = torch.randint(photos.shape[1], (count,), generator=stream)
    top = torch.randint(photos.shape[2] - height + 1, (count,), generator=stream)
    room = ranges[:, 1] - ranges[:, 0] - width + 1
    left = ranges[:, 0] + (torch.rand(count, generator=stream) * room).long()
    rows = top[:, None] + torch.arange(height)
    start = (which[:, None] * photos.shape[2] + rows) * photos.shape[3]
    place = start[:, :, None] + (left[:, None] + torch.arange(width))[:, None, :]
    planes = photos.flatten(1).index_select(1, place.flatten())
    return planes.view(3, count, height, width).transpose(0, 1).contiguous()
