"""How both branches of a passport network are trained together, and what is measured of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from freehold.data.batches import Batch
from freehold.data.domain import InputSpec, Split
from freehold.metrics.accuracy import share_correct
from freehold.models.two_branches import TwoBranches
from freehold.ownership.embedding import Kept
from freehold.ownership.passport_affine import PassportAffine
from freehold.seeds import generator
from freehold.training import Objective, Validation

IMAGES = 1000  # of the validation split, at most
FORGERIES = 5  # random passports that the private branch is tried with


def joint_objective(
    net: TwoBranches,
    affine: PassportAffine,
    kept: Kept,
    sign_weight: float,
    joint: Literal["summed", "alternating"],
    begin: int,
) -> Objective:
    """The task loss of one branch or both, and the hinge that holds the bits.

    Args:
        net: the branches; a single one stays the only one.
        affine: of the private branch.
        kept: the task loss.
        sign_weight: of the hinge, which is a sum over all bits.
        joint: both branches every step, or the public and the private one in turn.
        begin: step before which the bits are written; from then on the hinge counts. 0 if they stand.
    """
    single, resumed = net.branches != "both", True

    def objective(forward: nn.Module, batches: Mapping[str, Batch], step: int) -> dict[str, Tensor]:
        nonlocal resumed
        if begin and step == begin:
            affine.write(net.model)
        elif begin and resumed and step > begin:  # another process wrote them
            affine.bind()
        resumed = False
        clean = batches["train"]
        if joint == "alternating" and not single:
            net.branches = ("public", "private")[step % 2]
        affine.seen = None  # what this step's forward pass sees of the weights serves the hinge as well
        parts = forward(clean.images).split(len(clean))
        tasks = [kept(logits, clean) for logits in parts]
        bits = affine.missing(net.model) if step >= begin else torch.zeros_like(tasks[0])
        task = torch.stack(tasks).sum()
        terms = {"loss": task + sign_weight * bits, "task loss": task / len(tasks), "sign loss": bits}
        return terms | ({"public loss": tasks[0], "private loss": tasks[1]} if len(tasks) == 2 else {})

    return objective


class Measurement:
    """What both branches are worth on a split, and what a forger's private branch is.

    Args:
        net: the branches.
        affine: of the private one.
        split: images to measure on.
        spec: the model's input.
        precision: of the measurement.
    """

    def __init__(
        self, net: TwoBranches, affine: PassportAffine, split: Split, spec: InputSpec, precision: str
    ) -> None:
        self.net, self.affine, self.split, self.spec, self.precision = net, affine, split, spec, precision

    def _accuracy(self, model: nn.Module) -> float:
        return share_correct(model, self.split, self.spec, limit=IMAGES, precision=self.precision)

    def validate(self) -> Validation:
        """The worse branch counts; a bit that is wrong costs more than any accuracy could bring."""
        figures = self.figures()
        bits = figures["bits read"]
        return Validation(min(figures["accuracy"], figures["private accuracy"]) - 10 * (1 - bits), figures)

    def figures(self) -> dict[str, float]:
        """Accuracy of both branches and the share of all bits that are right."""
        private = self._accuracy(self.net.private())
        single = self.net.branches == "private"
        right = self.affine.right(self.net.model)
        total = sum(mark.pair.channels for mark in self.affine.marks)
        bits = sum(right[mark.pair.layer] * mark.pair.channels for mark in self.affine.marks) / total
        return {
            "accuracy": private if single else self._accuracy(self.net.model),
            "private accuracy": private,
            "bits read": bits,
        }

    def forgeries(self, seed: int) -> dict[str, float]:
        """Accuracy of the private branch when somebody else's passports are put in, h being the owner's."""
        true, found = self.net.affine, []
        try:
            for number in range(FORGERIES):
                self.net.affine = self.affine.forged(generator(seed, "forgery", number))
                found.append(self._accuracy(self.net.private()))
        finally:
            self.net.affine = true
        return {
            "accuracy with random passports, mean": sum(found) / len(found),
            "accuracy with random passports, largest": max(found),
        }
