"""Forward passes through batch statistics that leave no trace in the running ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Inside the block, norm layers in training mode use the batch's statistics and forget them.

    What somebody who fine-tunes sees of a model are batch statistics; a pass over foreign images must
    not move the running statistics, which belong to the authorized domain.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    flags = [norm.track_running_stats for norm in norms]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm, flag in zip(norms, flags, strict=True):
            norm.track_running_stats = flag
