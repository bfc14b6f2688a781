from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from freehold.data import Domain, Split


@pytest.fixture
def split() -> Callable[..., Split]:
    """Random images whose labels cycle through the classes."""

    def make(count: int = 20, channels: int = 3, side: int = 8, classes: int = 4, seed: int = 0) -> Split:
        stream = torch.Generator().manual_seed(seed)
        images = torch.randint(0, 256, (count, channels, side, side), generator=stream, dtype=torch.uint8)
        return Split(images, torch.arange(count) % classes)

    return make


@pytest.fixture
def domain(split: Callable[..., Split]) -> Callable[..., Domain]:
    def make(name: str = "toy", classes: tuple[str, ...] = ("a", "b", "c", "d"), **options: int) -> Domain:
        parts = {key: split(seed=seed, **options) for seed, key in enumerate(("train", "val", "test"))}
        return Domain(name, classes, **parts)

    return make


@pytest.fixture
def write_npz(tmp_path: Path) -> Callable[..., Path]:
    """40 train and 12 test images of three classes; keywords replace keys, None drops one."""

    def write(**changes: np.ndarray | None) -> Path:
        rng = np.random.default_rng(0)
        arrays: dict[str, np.ndarray | None] = {
            "train_images": rng.integers(0, 256, (40, 6, 6, 3), dtype=np.uint8),
            "train_labels": np.arange(40) % 3,
            "test_images": rng.integers(0, 256, (12, 6, 6, 3), dtype=np.uint8),
            "test_labels": np.arange(12) % 3,
        } | changes
        path = tmp_path / "set.npz"
        np.savez(path, **{key: array for key, array in arrays.items() if array is not None})
        return path

    return write
