"""What a method asks, taken down beforehand, so that the questions of many keys are put in one go."""

from __future__ import annotations

import torch
from torch import Tensor

from freehold.data.inputs import InputSpec
from freehold.errors import UsageError
from freehold.keys import Key
from freehold.ownership.base import OwnershipMethod
from freehold.ownership.suspect import Suspect
from freehold.plugin import Access


class _Notebook(Suspect):
    """Takes down the images that it is asked about."""

    def __init__(self, key: Key) -> None:
        super().__init__("notebook", InputSpec(**key.facts["input"]), key.facts["num_classes"], Access.LABELS)
        self.images: list[Tensor] = []

    def _answer(self, images: Tensor) -> Tensor:
        self.images.append(images)
        return torch.zeros(len(images), dtype=torch.int64)


class Answered(Suspect):
    """A suspect that was asked before: it gives its answers, once and in order.

    Args:
        suspect: that gave them.
        images: uint8 ``(n, C, H, W)`` that it was asked about.
        labels: int64 ``(n,)``, its answers.
    """

    def __init__(self, suspect: Suspect, images: Tensor, labels: Tensor) -> None:
        super().__init__(suspect.name, suspect.input, suspect.num_classes, Access.LABELS)
        self._images, self._labels = images, labels

    def _answer(self, images: Tensor) -> Tensor:
        count = len(images)
        if not torch.equal(images, self._images[:count]):
            raise UsageError("was not asked about these images", where=self.name)
        labels, self._images, self._labels = self._labels[:count], self._images[count:], self._labels[count:]
        return labels


def questions(method: OwnershipMethod, key: Key) -> Tensor:
    """All images that a method of label access asks a suspect about, uint8 ``(n, C, H, W)``."""
    notebook = _Notebook(key)
    for _ in method._observe(notebook, key):
        pass
    return torch.cat(notebook.images)
