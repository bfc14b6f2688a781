"""Learning which weights of a frozen model to cut: what all variants of mask pruning share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from torch import Tensor, nn

from freehold.authorization.scores import ScoreAdam
from freehold.models.anatomy import submodule
from freehold.models.layers import fuse_masks, masked, read_masks
from freehold.training import History, Loop, Objective, Stream, Trainer, Validation

INIT, THRESHOLD = 0.01, 0.005  # Piggyback's convention; only (INIT - THRESHOLD) / lr has an effect
BOUNDS = (-0.01, 0.02)


def learn_mask(
    model: nn.Module,
    objective: Objective,
    streams: Mapping[str, Stream],
    trainer: Trainer,
    *,
    names: Sequence[str],
    steps: int,
    lr: float,
    floor: float,
    validate: Callable[[], Validation] | None = None,
) -> tuple[dict[str, Tensor], History]:
    """Learn scores on the named weights against ``objective`` and cut those that end below the threshold.

    Everything but the scores is frozen, and norm layers keep the statistics of the source.

    Args:
        model: changed in place: afterwards a plain module again, with the cut weights at zero.
        objective: the loss terms of a step.
        streams: one stream of batches a name that the objective asks for.
        trainer: runs the fit named ``map``.
        names: parameter names of the weights that may be cut.
        steps: optimiser steps.
        lr: step size of the scores, cosine to a twentieth.
        floor: of :class:`~freehold.authorization.scores.ScoreAdam`.
        validate: scores the model sixteen times; without it the last mask is kept.

    Returns:
        The mask by parameter name, true where a weight is kept, and the curves.

    Raises:
        TrainingError: the loss became NaN or infinite.
    """
    model.requires_grad_(False)
    with masked(model, names, init=INIT, threshold=THRESHOLD):
        history = trainer.fit(
            model,
            objective,
            streams,
            Loop(steps=steps, lr=lr, schedule="cosine", final=0.05, evaluate_every=max(1, steps // 16)),
            name="map",
            mode="eval",
            validate=validate,
            build=lambda scores: ScoreAdam(scores, lr, floor=floor, bounds=BOUNDS),
        )
        mask = read_masks(model)
        fuse_masks(model)
    return mask, history


class LayerInputs:
    """Keeps what goes into each named layer in the last forward pass, while the ``with`` block lasts.

    The inputs of the layers that carry masks are all that a mask can change on the way to the logits.

    Args:
        model: the module that contains the layers.
        names: dotted names of layers.
    """

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        self.values: list[Tensor] = []  # in the order of the calls
        self._layers = [submodule(model, name) for name in names]
        self._hooks = ExitStack()

    def __enter__(self) -> Self:
        for layer in self._layers:
            self._hooks.callback(layer.register_forward_pre_hook(self._keep, with_kwargs=True).remove)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooks.close()

    def take(self) -> list[Tensor]:
        """The inputs since the last call; the model's own input, which no mask changes, is left out."""
        taken, self.values = self.values, []
        return taken[1:]

    def _keep(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.values.append(next(iter([*args, *kwargs.values()])))
