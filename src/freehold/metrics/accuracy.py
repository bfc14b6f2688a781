"""Predictions over a split and how often they are right."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from freehold.data.batches import sequential
from freehold.data.domain import InputSpec, Split
from freehold.errors import ModelError
from freehold.models.anatomy import evaluating
from freehold.statistics import Interval, clopper_pearson


class Accuracy(BaseModel):
    """Right answers of ``n``, with the exact 95 % binomial interval; all shares in ``[0, 1]``."""

    model_config = ConfigDict(frozen=True)

    correct: int
    n: int
    value: float
    low: float
    high: float

    @classmethod
    def of(cls, correct: int, n: int) -> Accuracy:
        """From counts."""
        low, high = clopper_pearson(correct, n)
        return cls(correct=correct, n=n, value=correct / n, low=low, high=high)

    @property
    def interval(self) -> Interval:
        """Bounds of the exact 95 % interval."""
        return Interval(self.low, self.high)


@torch.inference_mode()
def apply(
    model: nn.Module,
    split: Split,
    spec: InputSpec,
    *,
    keep: Callable[[Tensor], Tensor] = lambda logits: logits.float(),
    limit: int | None = None,
    precision: str = "fp32",
    batch_size: int = 512,
) -> Tensor:
    """Run ``model`` in evaluation mode over the first ``limit`` images of ``split``, in order.

    Args:
        model: on any device; its training mode is put back.
        split: images and labels.
        spec: what images are brought to first.
        keep: what to keep of each batch of logits ``(B, K)``.
        limit: images to use; all by default.
        precision: ``"bf16"`` runs under autocast.
        batch_size: images at a time.

    Returns:
        The kept values, concatenated, on the model's device.

    Raises:
        ModelError: the model's answers are not finite.
    """
    device = next(model.parameters()).device
    finite = torch.ones((), dtype=torch.bool, device=device)
    kept = []
    with evaluating(model), _precision(device, precision):
        for batch in sequential(split, spec, batch_size, device=device, limit=limit):
            logits = model(batch.images)
            finite &= logits.isfinite().all()
            kept.append(keep(logits))
    if not finite:
        raise ModelError(
            "the model answers NaN or infinity", where="model", fix="check its weights and input range"
        )
    return torch.cat(kept)


def predict(
    model: nn.Module, split: Split, spec: InputSpec, *, limit: int | None = None, precision: str = "fp32"
) -> Tensor:
    """Predicted classes, int64 ``(N,)``, on the model's device; arguments and errors as :func:`apply`."""
    return apply(model, split, spec, keep=lambda logits: logits.argmax(1), limit=limit, precision=precision)


def share_correct(
    model: nn.Module, split: Split, spec: InputSpec, *, limit: int | None = None, precision: str = "fp32"
) -> float:
    """Share of the first ``limit`` images that the model gets right, in ``[0, 1]``."""
    predicted = predict(model, split, spec, limit=limit, precision=precision)
    return float((predicted.cpu() == split.labels[: len(predicted)]).float().mean())


def _precision(device: torch.device, precision: str) -> AbstractContextManager[object]:
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)
