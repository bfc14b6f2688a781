"""Models with a mark each, made in a step or two: what asking them costs does not depend on more."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import nn

import freehold as fh
from benchmarks.speed.stepper import digits
from freehold.keys import Key
from freehold.ownership.ptynet import PTYNet
from freehold.ownership.trigger_set import TriggerSet
from freehold.protection import Protection

METHODS: dict[str, Protection] = {
    "trigger-set": TriggerSet(triggers=100, steps=1),
    "ptynet": PTYNet(steps=1),
    "passport": fh.Passport(steps=2),
}


@cache
def marked(method: str, uri: str = "resnet20") -> tuple[nn.Module, Key]:
    """The model as it is shipped, and its key."""
    run = fh.Run(device="cpu", progress=False)
    given = fh.Domains(digits().authorized, [], digits().input)
    found = METHODS[method].protect(fh.load_model(uri, 10), given, run=run)
    assert found.key is not None  # all of them keep one
    return found.model.eval(), found.key


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def quietly(model: nn.Module, batch: torch.Tensor) -> Any:
    with torch.inference_mode():
        return model(batch)
