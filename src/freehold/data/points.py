"""``points:PATH``: point clouds as images whose three channels are x, y and z.

Everything that works on images then works on clouds, from batches to suspects. A cloud of N points in the
unit ball becomes an image of side sqrt(N), its pixels in no order that means anything, 8 bits a
coordinate: the step is 2/255 of the ball's radius. Resizing, flipping or shifting such images makes no sense.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from freehold.data.carve import carve
from freehold.data.domain import Domain, Split, numbered_classes
from freehold.data.npz import open_archive, read_array
from freehold.errors import DataError
from freehold.seeds import generator


def load_points(path: Path, *, name: str, seed: int = 0, val_fraction: float = 0.1) -> Domain:
    """An archive of point clouds as a domain.

    Keys: ``{train,test}_points`` floating point ``(N, P, 3)``, P a square, ``{train,test}_labels`` integer
    ``(N,)``, optionally ``class_names``. Clouds are centred and scaled to the unit ball. A stratified
    ``val_fraction`` of train is set aside.

    Raises:
        MissingInputError: no such file.
        DataError: names the file, the key and what is expected of it.
    """
    with open_archive(path) as archive:
        given = {}
        for key in ("train", "test"):
            points = read_array(archive, path, f"{key}_points")
            labels = read_array(archive, path, f"{key}_labels")
            where = f"{path}: {key}_labels"
            if labels.dtype.kind not in "iu" or labels.shape != points.shape[:1] or not len(labels):
                raise DataError(f"expected {len(points)} integers, got {labels.shape}", where=where)
            images = as_images(points, where=f"{path}: {key}_points")
            given[key] = Split(images, torch.from_numpy(labels.astype(np.int64)))
        named = "class_names" in archive.files
        names = tuple(map(str, read_array(archive, path, "class_names"))) if named else ()
    count = 1 + max(int(split.labels.max()) for split in given.values())
    val, rest = carve(given["train"].labels, (val_fraction,), generator(seed, "val"))
    record = {"source": f"points:{path}", "coordinates": "unit ball, 8 bits each"}
    return Domain(
        name,
        names or numbered_classes(max(2, count), str(path)),
        train=given["train"].take(rest),
        val=given["train"].take(val),
        test=given["test"],
        record=record,
    )


def as_images(points: np.ndarray[Any, Any], *, where: str = "points") -> Tensor:
    """Clouds ``(N, P, 3)``, P a square, as uint8 images ``(N, 3, sqrt(P), sqrt(P))``.

    Raises:
        DataError: of another shape, or with values that are not finite.
    """
    side = math.isqrt(points.shape[1]) if points.ndim == 3 else 0
    if points.dtype.kind != "f" or side < 4 or points.shape[1:] != (side * side, 3):
        raise DataError(
            f"expected floats (N, P, 3) with P a square from 16, got {points.dtype} {points.shape}",
            where=where,
        )
    clouds = torch.from_numpy(points.astype(np.float32))
    if not bool(clouds.isfinite().all()):
        raise DataError("NaN or infinite coordinates", where=where)
    clouds = clouds - clouds.mean(1, keepdim=True)
    clouds = clouds / clouds.norm(dim=2).amax(1).clamp_min(1e-12)[:, None, None]
    pixels = ((clouds + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    images: Tensor = pixels.transpose(1, 2).reshape(len(points), 3, side, side).contiguous()
    return images
