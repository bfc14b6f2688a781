"""What several test files need: tiny settings and a tiny network."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from freehold.data import Domains
from freehold.models.zoo import load_model
from freehold.plugin import find, names
from freehold.protection import Protection
from freehold.seeds import global_draws
from freehold.training import Run, Trainer
from freehold.training.classifier import Supervised, train_classifier

METHODS = sorted(name for name in names() if issubclass(find(name), Protection))


def small(method: type[Protection], **fields: Any) -> Protection:
    """The method at its shortest."""
    short = {"steps": 4, "batch_size": 8, "outer": 2, "inner": 2, "sparsity": 0.4}
    return method(**{k: v for k, v in short.items() if k in method.model_fields}, **fields)


def quiet(**fields: Any) -> Run:
    return Run(**{"progress": False, "device": "cpu", **fields})


def trained_convnet(domains: Domains, steps: int) -> nn.Module:
    """The built-in convnet after so many steps on the authorized domain."""
    with global_draws(0, "model"):
        model = load_model("convnet", 10)
    trainer = Trainer(quiet(precision="bf16"))
    train_classifier(model, domains.authorized, domains.input, Supervised(steps=steps), trainer)
    return model


class Small(nn.Module):
    """A convolutional classifier of two stages that can be told to crash."""

    def __init__(self, crash_after: int | None = None) -> None:
        super().__init__()
        with global_draws(1, "small"):
            self.features = nn.Sequential(
                nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(4),
                nn.Conv2d(8, 96, 3, padding=1), nn.BatchNorm2d(96), nn.ReLU(), nn.MaxPool2d(4),
            )  # fmt: skip
            self.head = nn.Linear(96, 10)
        self.left = crash_after

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training or self.left is not None:
            self.left = None if self.left is None else self.left - 1
            if self.left == 0:
                raise RuntimeError("crash inside the model")
        return self.head(self.features(images).mean((2, 3)))
