"""What stands in for data that is not there: a synthetic bank for the source, guesses for the target."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn

from freehold.authorization.figures import figure_spec, in_two_tones
from freehold.authorization.masking import LayerInputs
from freehold.authorization.matching import StatisticsTap, untrained_statistics
from freehold.authorization.neighbours import BARE, checked, neighbours
from freehold.data.batches import Batch, fit_images, normalise
from freehold.data.domain import Domains, InputSpec, Split
from freehold.metrics.accuracy import predict
from freehold.models.anatomy import evaluating
from freehold.plugin import Problem
from freehold.seeds import derive, generator
from freehold.training import Trainer
from freehold.training.losses import bounded_divergence, distillation

TEMPERATURE = 2.0  # softens both answers before they are compared


def pseudo_labelled(model: nn.Module, domains: Domains, trainer: Trainer, limit: int) -> Split:
    """Unauthorized training images, at most ``limit``, with the classes that ``model`` sees in them.

    Their own labels are not looked at. Several domains are shuffled, each in proportion to its size.
    """
    images = torch.cat([fit_images(d.train.images, domains.input) for d in domains.unauthorized])
    order = torch.randperm(len(images), generator=generator(trainer.run.seed, "unlabelled"))
    images = images[order[:limit]]
    blank = Split(images, torch.zeros(len(images), dtype=torch.int64))
    return Split(images, predict(model, blank, domains.input, precision=trainer.run.precision).cpu())


class Guesses:
    """The unprotected model beside the one whose mask is learned, in the place of labels.

    Args:
        model: about to be masked; a copy of it as it is now becomes the teacher.
        layers: names of the layers that carry masks.
        spec: what images are normalised with.
        trainer: gives precision and seed.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str], spec: InputSpec, trainer: Trainer) -> None:
        self.teacher = copy.deepcopy(model).eval().requires_grad_(False)
        self.spec, self.trainer = spec, trainer
        self._before, self._now = LayerInputs(self.teacher, layers), LayerInputs(model, layers)
        self._hooks = ExitStack()
        self._stream, self._rank = torch.Generator(), trainer.accelerator.process_index

    def __enter__(self) -> Self:
        self._hooks.enter_context(self._before)
        self._hooks.enter_context(self._now)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooks.close()

    def compare(
        self, forward: nn.Module, batches: Mapping[str, Batch], step: int, bound: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One step's three scalars: answers and features gone astray, and the target's loss.

        Args:
            forward: the masked model.
            batches: ``"source"`` (synthetic) and, if there is one, ``"target"`` with pseudo-labels; without
                it ``"figures"``, painted anew, take its place, or without them bare looks of the source, as
                far as the teacher sees their class.
            step: with the seed, which tones and looks.
            bound: target loss that a sample gives at most, in nats.

        Returns:
            Divergence of the softened answers on the source; mean over the masked layers of the relative
            squared error of what goes into them, on the source; target loss.
        """
        source, count = batches["source"].images, len(batches["source"])
        expected = self._ask(source)
        before = self._before.take()
        if "target" in batches:
            target, labels = batches["target"].images, batches["target"].labels
        else:
            self._stream.manual_seed(derive(self.trainer.run.seed, "tones", self._rank, step))
            if "figures" in batches:
                target, labels = self._paint(batches["figures"])
            else:
                bare = neighbours(source, self.spec, self._stream, BARE)
                target, labels = checked(self._ask, bare, batches["source"].labels)
            self._before.take()
        logits = forward(torch.cat([source, target]))
        now = self._now.take()
        errors = [_relative_error(n[:count], b) for n, b in zip(now, before, strict=True)]
        drift = torch.stack(errors).mean() if errors else logits.new_zeros(())
        astray = TEMPERATURE**2 * distillation(logits[:count] / TEMPERATURE, expected / TEMPERATURE)
        return astray, drift, bounded_divergence(logits[count:], labels, bound)

    def _paint(self, figures: Batch) -> tuple[Tensor, Tensor]:
        return checked(self._ask, in_two_tones(figures.images, self.spec, self._stream), figures.labels)

    @torch.no_grad()
    def _ask(self, images: Tensor) -> Tensor:
        with self.trainer.accelerator.autocast():
            logits: Tensor = self.teacher(images)
        return logits.float()


def _relative_error(now: Tensor, before: Tensor) -> Tensor:
    scale = before.square().mean(dtype=torch.float32).clamp_min(torch.finfo(torch.float32).tiny)
    return (now - before).square().mean(dtype=torch.float32) / scale


@torch.no_grad()
def noisy_disagreement(
    before: nn.Module, after: nn.Module, source: Split, spec: InputSpec, seed: int
) -> float:
    """Share of at most 500 synthetic images, with noise on top, of which two models see different classes.

    Without noise they agree whatever became of the source, since the mask was learned on these images.
    The noise has deviation 0.3 after normalisation.
    """
    device = next(after.parameters()).device
    images = normalise(fit_images(source.images[:500], spec), spec)
    images = (images + 0.3 * torch.randn(images.shape, generator=generator(seed, "noise"))).to(device)
    with evaluating(before), evaluating(after):
        return float((before(images).argmax(1) != after(images).argmax(1)).float().mean())


@torch.no_grad()
def recognised(model: nn.Module, figures: Split, spec: InputSpec, seed: int) -> float:
    """Share of at most 500 figures, each painted in two random tones, in which ``model`` sees their class."""
    kept = normalise(fit_images(figures.images[:500], figure_spec(spec)), figure_spec(spec))
    painted = in_two_tones(kept, spec, generator(seed, "recognised")).to(next(model.parameters()).device)
    with evaluating(model):
        seen = model(painted).argmax(1).cpu()
    return float((seen == figures.labels[:500]).float().mean())


@torch.no_grad()
def nearest_gap(model: nn.Module, target: Split, spec: InputSpec) -> float | None:
    """How far the target is from the source in the layer that sees the smallest difference.

    Compared are the statistics that batch norm layers stored in training with those of at most 400
    target images; see :func:`~freehold.authorization.synthesis.statistics_gap`. None without such layers.
    """
    images = normalise(fit_images(target.images[:400], spec).to(next(model.parameters()).device), spec)
    with evaluating(model), StatisticsTap(model) as tap:
        model(images)
        return float(tap.gaps().min()) if tap.layers else None


def surrogate_problems(model: nn.Module, domains: Domains, batch_size: int) -> list[Problem]:
    """Why a model or its target cannot be worked with where the source data is missing."""
    found = []
    if fresh := untrained_statistics(model):
        what = "batch norm statistics that no training has touched: no image can be matched to them"
        fix = "train the model, or load its buffers along with its weights"
        found.append(Problem(where=fresh[0], what=what, fix=fix))
    images = sum(len(d.train) for d in domains.unauthorized)
    if domains.unauthorized and images < batch_size:
        what = f"{images} target images for batches of {batch_size}"
        found.append(Problem(where="batch_size", what=what, fix=f"use at most {images}"))
    return found
