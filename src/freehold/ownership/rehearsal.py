"""Triggers learned where a thief who fine-tunes would take the weights, not only where they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from freehold.data.batches import Batch
from freehold.models.batch_statistics import batch_statistics
from freehold.models.clean_norms import CleanNorms
from freehold.ownership.embedding import Kept, error
from freehold.training import Objective

THIEF_LR = 0.05  # of plain SGD, at its highest: what 0.005 is with a momentum of 0.9
ROUND = 20  # steps of the thief before he starts again from the owner's weights


class Rehearsal(nn.Module):
    """A model and the weights of somebody who fine-tunes it, in one module, so that a fit resumes both.

    Args:
        model: the owner's; the fit trains its parameters alone.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._count = len(list(model.parameters()))
        for number, weight in enumerate(model.parameters()):
            self.register_buffer(f"thief_{number}", weight.detach().clone())

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, K)`` of the owner's model."""
        logits: Tensor = self.model(images)
        return logits

    @property
    def thief(self) -> list[Tensor]:
        """His weights, in the order of the model's parameters."""
        return [self.get_buffer(f"thief_{number}") for number in range(self._count)]


def rehearsed(
    pair: Rehearsal, kept: Kept, weight: float, moved: float, steps: int, norms: CleanNorms
) -> Objective:
    r"""Triggers are learned where the weights are, and where fine-tuning takes them.

    .. math:: L(\theta, D) + w L(\theta, T) + m L(\theta + [\phi - \theta], T)

    with the thief's weights :math:`\phi`, and no gradient through the bracket: first-order meta-learning.
    For each step of the owner the thief takes one of plain SGD on the labelled clean images, and every
    few steps he starts again from the owner's weights. His norm layers use the statistics of the batch,
    for the triggers as well. He comes when a quarter of the steps is over, and his learning rate rises
    until the last quarter.

    Args:
        pair: what is fitted.
        kept: the clean loss.
        weight: w.
        moved: m.
        steps: of the fit.
        norms: of the model.
    """
    arrival = steps // 4

    def objective(forward: nn.Module, batches: Mapping[str, Batch], step: int) -> dict[str, Tensor]:
        clean, triggers = batches["clean"], batches["triggers"]
        same = kept(forward(clean.images), clean)
        norms.hold = True
        here = there = error(forward(triggers.images), triggers)
        norms.hold = False
        if step >= arrival:
            own = dict(forward.named_parameters())
            if (step - arrival) % ROUND == 0:
                torch._foreach_copy_(pair.thief, [p.detach() for p in own.values()])
            with _training(forward):
                with batch_statistics(forward):
                    _fine_tune(forward, pair, clean, THIEF_LR * min(1.0, max(0.0, 2 * step / steps - 0.5)))
                norms.hold = True
                moved_to = {
                    n: p + (t - p).detach() for (n, p), t in zip(own.items(), pair.thief, strict=True)
                }
                there = error(functional_call(forward, moved_to, (triggers.images,)), triggers)
                norms.hold = False
        loss = same + weight * here + moved * there
        return {"loss": loss, "clean loss": same, "trigger loss": here, "moved loss": there}

    return objective


def _fine_tune(forward: nn.Module, pair: Rehearsal, clean: Batch, lr: float) -> None:
    """One step of the thief."""
    weights = [weight.detach().requires_grad_() for weight in pair.thief]
    names = [name for name, _ in forward.named_parameters()]
    logits = functional_call(forward, dict(zip(names, weights, strict=True)), (clean.images,))
    gradients = torch.autograd.grad(error(logits, clean), weights, materialize_grads=True)
    torch._foreach_add_(pair.thief, gradients, alpha=-lr)


@contextmanager
def _training(model: nn.Module) -> Iterator[None]:
    mode = model.training
    model.train()
    try:
        yield
    finally:
        model.train(mode)
