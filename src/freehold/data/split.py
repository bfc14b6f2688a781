"""Images and their labels: what a domain has three of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from freehold.errors import DataError


def require(fits: bool, fault: str, where: str, fix: str = "") -> None:
    """Raise a DataError of ``fault`` in ``where`` unless something ``fits``."""
    if not fits:
        raise DataError(fault, where=where, fix=fix)


@dataclass(frozen=True, eq=False)
class Split:
    """Images and labels that stay together.

    Args:
        images: uint8 ``(N, C, H, W)``, C 1 (grey) or 3 (RGB), N at least 1.
        labels: int64 ``(N,)``, not negative.

    Raises:
        DataError: names the tensor that does not fit and what is expected.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        for part, value in (("images", images), ("labels", labels)):
            kind = type(value).__name__
            require(isinstance(value, Tensor), f"expected a torch tensor, got {kind}", part)
        shapes = "(N, C, H, W) with C 1 or 3"
        fits = images.ndim == 4 and images.shape[1] in (1, 3) and 0 not in images.shape[2:]
        kind = f"{images.dtype} {tuple(images.shape)}"
        fix = "scale to 0..255, round and call .to(torch.uint8)" if images.dtype != torch.uint8 else ""
        require(images.dtype == torch.uint8 and fits, f"expected uint8 {shapes}, got {kind}", "images", fix)
        kind = f"{labels.dtype} {tuple(labels.shape)}"
        fits = labels.dtype == torch.int64 and labels.ndim == 1
        require(fits, f"expected int64 (N,), got {kind}", "labels", "one class number per image")
        require(len(images) == len(labels), f"{len(labels)} labels for {len(images)} images", "labels")
        require(len(images) > 0, "the split is empty", "images", "give images of at least two classes")
        least = int(labels.min())
        require(least >= 0, f"label {least} is negative", "labels", "number classes from 0")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> Split:
        """The rows ``indices`` (int64 ``(M,)``, any order, repeats allowed) as a new split."""
        return Split(self.images[indices], self.labels[indices])
