"""Experiment seeds as a tree: every consumer of randomness derives its own from a path of names.

Adding a consumer never shifts the numbers another one draws, and a batch, a shift or an
initialisation is a pure function of ``(seed, path)``, which is what makes exact resumption possible.
Nothing here may be used for secrets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive(seed: int, *path: str | int) -> int:
    """Child seed in ``[0, 2**63)`` of ``seed`` along ``path``; distinct paths are independent."""
    text = "/".join([str(seed), *(f"{type(p).__name__}:{p}" for p in path)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *path: str | int) -> torch.Generator:
    """CPU generator seeded by :func:`derive`; draws are the same whatever device trains."""
    import torch

    return torch.Generator().manual_seed(derive(seed, *path))


@contextmanager
def global_draws(seed: int, *path: str | int) -> Iterator[Callable[[int], None]]:
    """Make what draws from torch's global generator (dropout, initialisation) a function of the seed.

    Yields a function that reseeds for step ``t``; the caller's global state is put back at the end.
    """
    import torch

    with torch.random.fork_rng():

        def reseed(step: int) -> None:
            torch.manual_seed(derive(seed, *path, step))

        reseed(0)
        yield reseed
