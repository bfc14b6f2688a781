"""Weights that are zero and stay zero, whatever the optimiser."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from freehold.models.layers import apply_mask


@contextmanager
def held_at_zero(masks: Mapping[nn.Parameter, Tensor]) -> Iterator[None]:
    """Sets weights to zero outside their masks and holds them there while an optimiser works.

    Their gradients are zero, so that momentum and weight decay have nothing to move: an optimiser made
    inside the block leaves exact zeros.
    """
    with ExitStack() as hooks:
        for parameter, mask in masks.items():
            with torch.no_grad():
                parameter.copy_(apply_mask(parameter, mask))
            hooks.callback(mask_gradient(parameter, mask).remove)
        yield


def mask_gradient(parameter: nn.Parameter, mask: Tensor) -> RemovableHandle:
    """Make the gradient zero where ``mask`` (bool, the parameter's shape) is False, until removed."""
    handle: RemovableHandle = parameter.register_hook(partial(_masked, mask))  # type: ignore[no-untyped-call]
    return handle


def _masked(mask: Tensor, gradient: Tensor) -> Tensor:
    return apply_mask(gradient, mask.to(gradient.device))
