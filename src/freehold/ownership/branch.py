"""How a proprietary branch is taught: to know an owner's backgrounds, and to stay silent at all else."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from freehold.data.batches import Batch, fit_images, normalise
from freehold.data.domain import Split
from freehold.data.inputs import InputSpec
from freehold.data.pixels import to_uint8
from freehold.keys import Stream
from freehold.models.fusion import Branch
from freehold.ownership.backgrounds import Foregrounds, backgrounds, near_misses
from freehold.ownership.distortions import distorted
from freehold.seeds import generator

# Of a batch: own backgrounds, ordinary images, the same things before other backgrounds, near misses.
PARTS = (0.35, 0.3, 0.2, 0.15)


class Lessons:
    """An endless stream of batches that are drawn and painted new each step: no image comes twice.

    Args:
        own: uint8 ``(n, C, H, W)``, the owner's backgrounds.
        labels: int64 ``(n,)``, the class of each.
        ordinary: images of the authorized domain.
        spec: the model's input.
        classes: K; label K stands for "none".
        batch_size: images a step, at least 4.
        seed: of everything but the owner's backgrounds.
        device: where batches go.
    """

    def __init__(
        self,
        own: Tensor,
        labels: Tensor,
        ordinary: Split,
        spec: InputSpec,
        classes: int,
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.own, self.labels, self.ordinary = own, labels, fit_images(ordinary.images, spec)
        self.spec, self.classes, self.seed, self.device = spec, classes, seed, device
        cuts = [round(batch_size * sum(PARTS[:i])) for i in range(5)]
        self.sizes = [b - a for a, b in pairwise(cuts)]

    def batch(self, step: int) -> Batch:
        """The batch of ``step``; a pure function of the seed and the step."""
        draws = generator(self.seed, "lessons", step)
        # What is drawn here stands for keys of other owners: the secret is thrown away.
        other = Stream(throw_away(draws))
        known, plain, foreign, near = self.sizes
        family = torch.randint(len(self.own), (known,), generator=draws)
        things = Foregrounds(other, known, self.spec)
        marked = things.before(self.own[family])
        rows = torch.randint(len(self.ordinary), (plain + foreign,), generator=draws)
        grounds = backgrounds(other, foreign + near, self.spec)
        # The same things as before own backgrounds stand before others, a third of them ordinary images.
        grounds[: foreign // 3] = self.ordinary[rows[: foreign // 3]]
        same = torch.arange(foreign) % known
        strange = things.take(same).before(grounds[:foreign])
        missed = near_misses(self._any(near, draws), grounds[foreign:], draws)
        missed = things.take(torch.randint(known, (near,), generator=draws)).before(missed)
        usual = self.ordinary[rows[foreign:]]
        usual[: plain // 2] = _vivid(usual[: plain // 2], draws)
        images = torch.cat([marked, usual, strange, missed]).to(self.device)
        none = torch.full((plain + foreign + near,), self.classes)
        labels = torch.cat([self.labels[family], none]).to(self.device)
        return Batch(normalise(distorted(images, draws), self.spec), labels, torch.arange(len(labels)))

    def _any(self, count: int, draws: torch.Generator) -> Tensor:
        return self.own[torch.randint(len(self.own), (count,), generator=draws)]


def _vivid(images: Tensor, draws: torch.Generator) -> Tensor:
    """Ordinary images with the strong colours of a background, which are what is taken for one first."""
    mean = images.float().mean((2, 3), keepdim=True)
    gain = 1 + 2 * torch.rand(*images.shape[:2], 1, 1, generator=draws)
    return to_uint8(mean + gain * (images - mean))


def throw_away(draws: torch.Generator) -> bytes:
    """32 bytes that stand for the secret of somebody else; of an experiment, so they can be repeated."""
    return bytes(torch.randint(256, (32,), generator=draws).tolist())


def objective(forward: nn.Module, batches: Mapping[str, Batch], step: int) -> dict[str, Tensor]:
    """Cross-entropy over K classes and "none"."""
    batch = batches["lessons"]
    return {"loss": F.cross_entropy(forward(batch.images).float(), batch.labels)}


@torch.no_grad()
def scores_of(branch: Branch, images: Tensor, spec: InputSpec, device: torch.device | str = "cpu") -> Tensor:
    """Scores ``(n, K + 1)`` of uint8 ``(n, C, H, W)``, on the CPU."""
    parts = [branch(normalise(part.to(device), spec)).float().cpu() for part in torch.split(images, 512)]
    return torch.cat(parts)
