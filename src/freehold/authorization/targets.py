"""The target of a method that gives every domain its own label space: one split, one count of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from freehold.data.batches import fit_images
from freehold.data.domain import Domain, Domains, Split
from freehold.metrics.accuracy import predict
from freehold.plugin import Problem


@dataclass(frozen=True)
class Target:
    """Images to be closed, with labels in ``[0, num_classes)``.

    Attributes:
        shared: the labels mean the same as the model's own outputs, so that its head reads the target too.
    """

    split: Split
    num_classes: int
    shared: bool


def target_of(model: nn.Module, domains: Domains, *, predicted: bool, precision: str) -> Target:
    """The training images of all unauthorized domains as one target.

    Domains with the same class names share their classes; every other label space gets classes of its own.

    Args:
        model: answers for the images where there are no labels.
        domains: the unauthorized ones are joined.
        predicted: put the model's own answers in the place of the labels; then only its classes exist.
        precision: of those answers.
    """
    spec = domains.input
    images = torch.cat([fit_images(d.train.images, spec) for d in domains.unauthorized])
    if predicted:
        answers = [predict(model, d.train, spec, precision=precision).cpu() for d in domains.unauthorized]
        labels = torch.cat(answers)
        found, ranks = torch.unique(labels, return_inverse=True)
        every = bool((found == torch.arange(len(found))).all())  # then ranks and classes are the same
        return Target(Split(images, ranks), len(found), every and len(found) == domains.num_classes)
    labels, count = _joint_labels(domains.unauthorized)
    return Target(Split(images, labels), count, domains.mismatch() is None)


def target_problems(domains: Domains) -> list[Problem]:
    """A target in which no two classes have two images each cannot be told apart, let alone closed."""
    labels, _ = _joint_labels(domains.unauthorized)
    if int((labels.bincount() >= 2).sum()) >= 2:
        return []
    what = "fewer than two classes have two images or more: there is nothing to make inseparable"
    return [Problem(where="unauthorized", what=what, fix="give more target images")]


def _joint_labels(domains: Sequence[Domain]) -> tuple[Tensor, int]:
    offsets: dict[tuple[str, ...], int] = {}
    count, labels = 0, []
    for domain in domains:
        if domain.classes not in offsets:
            offsets[domain.classes] = count
            count += domain.num_classes
        labels.append(domain.train.labels + offsets[domain.classes])
    return torch.cat(labels), count
