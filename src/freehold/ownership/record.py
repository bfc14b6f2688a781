"""A suspect that is written down while it is asked, and one that answers from such a record."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from freehold.data.batches import fit_images
from freehold.data.inputs import InputSpec
from freehold.errors import ArtifactError, SuspectError, UsageError
from freehold.keys import Key
from freehold.ownership.base import OwnershipMethod
from freehold.ownership.habit import Habit
from freehold.ownership.suspect import CallableSuspect, Suspect
from freehold.plugin import Access


class Recorded(Suspect):
    """Asks another suspect, and keeps each image it was asked about, its answer and the scores behind it."""

    def __init__(self, inner: Suspect) -> None:
        super().__init__(inner.name, inner.input, inner.num_classes, inner.access, batch=inner.batch)
        self._inner = inner
        self._asked: list[tuple[Tensor, Tensor]] = []
        self._scores: list[Tensor] = []

    def weights(self) -> nn.Module:
        """The model itself, not to be changed."""
        return self._inner.weights()

    @property
    def images(self) -> Tensor:
        """uint8 ``(n, C, H, W)``: what it was asked about, in order."""
        none = torch.empty(0, self.input.channels, *self.input.size, dtype=torch.uint8)
        return torch.cat([none, *(images for images, _ in self._asked)])

    @property
    def answers(self) -> Tensor:
        """int64 ``(n,)``: what it answered."""
        return torch.cat([torch.empty(0, dtype=torch.int64), *(found for _, found in self._asked)])

    @property
    def scores(self) -> Tensor:
        """float32 ``(n, K)``: probabilities that it showed, if the method reads them; else ``(0, K)``."""
        return torch.cat([torch.empty(0, self.num_classes), *self._scores])

    def peculiar(self, images: Tensor, habit: Habit) -> Tensor:
        """As the other suspect's."""
        if self.access < Access.PROBABILITIES:
            return self.labels(images)
        self.queries += len(images)
        scores = self._inner.probabilities(images)
        self._scores.append(scores)
        return self._kept(fit_images(images, self.input), habit.beyond(scores))

    def _answer(self, images: Tensor) -> Tensor:
        return self._kept(images, self._inner.labels(images))

    def _kept(self, images: Tensor, found: Tensor) -> Tensor:
        self._asked.append((images.clone(), found))
        return found


class Replayed(Suspect):
    """Answers as was recorded, in order, whatever it is asked; what it is asked is kept to be compared.

    Args:
        name: as it was recorded.
        input: its input contract.
        num_classes: how many classes it tells apart.
        access: what was seen of it.
        answers: int64 ``(n,)`` in ``[0, num_classes)``.
        weights: by layer; the weights of other layers are not at hand.
        scores: float32 ``(n, num_classes)`` that the answers follow from, if they were recorded.
    """

    def __init__(
        self,
        name: str,
        input: InputSpec,
        num_classes: int,
        access: Access,
        answers: Tensor,
        weights: Mapping[str, Tensor],
        scores: Tensor | None = None,
    ) -> None:
        super().__init__(name, input, num_classes, access)
        self._answers, self._weights, self._scores = answers, weights, scores
        self._images: list[Tensor] = []

    @property
    def images(self) -> Tensor:
        """uint8 ``(n, C, H, W)``: what it was asked about, in order."""
        none = torch.empty(0, self.input.channels, *self.input.size, dtype=torch.uint8)
        return torch.cat([none, *self._images])

    def peculiar(self, images: Tensor, habit: Habit) -> Tensor:
        """What was recorded.

        Raises:
            ArtifactError: it does not follow from the scores that were recorded with it.
        """
        start = sum(map(len, self._images))
        found = self.labels(images)
        if self._scores is not None:
            part = self._scores[start : start + len(found)]
            if not torch.equal(habit.beyond(part), found):
                raise ArtifactError("the answers do not follow from the scores", where=self.name)
        return found

    def weights(self) -> nn.Module:
        """A module that holds the recorded weights and nothing else.

        Raises:
            UsageError: none were recorded, or a layer's name is none.
        """
        if not self._weights:
            return super().weights()
        root = nn.Module()
        for layer, weight in self._weights.items():
            inner = root
            for part in layer.split("."):
                if not part or (hasattr(inner, part) and not isinstance(getattr(inner, part), nn.Module)):
                    raise UsageError(f"no layer is called {layer!r}", where=self.name)
                if part not in dict(inner.named_children()):
                    inner.add_module(part, nn.Module())
                inner = inner.get_submodule(part)
            inner.register_buffer("weight", weight)
        return root

    def _answer(self, images: Tensor) -> Tensor:
        start = sum(map(len, self._images))
        self._images.append(images)
        found = self._answers[start : start + len(images)]
        if len(found) < len(images):
            raise SuspectError("more is asked than was recorded", where=self.name)
        return found


def questions(method: OwnershipMethod, key: Key) -> Tensor:
    """All images that a method of label access asks a suspect about, uint8 ``(n, C, H, W)``."""

    def mute(images: Tensor) -> Tensor:
        return torch.zeros(len(images), dtype=torch.int64)

    asked = Recorded(CallableSuspect(mute, InputSpec(**key.facts["input"]), key.facts["num_classes"]))
    for _ in method._observe(asked, key):
        pass
    return asked.images
