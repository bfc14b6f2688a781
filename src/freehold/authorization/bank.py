"""The synthetic images of a model, made once and kept in the user's cache."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save
from torch import nn

from freehold.artifacts.files import fingerprint, write_file
from freehold.authorization.figures import draw_figures
from freehold.authorization.synthesis import synthesise
from freehold.data.domain import InputSpec, Split
from freehold.errors import FreeholdError, OutputError
from freehold.models.weights import read_safetensors, state_hash
from freehold.training import History, Trainer

logger = logging.getLogger(__name__)
FORMAT = 1  # raise it when synthesis changes, so that old banks are not taken for new ones
# One generator finds a part of what the network knows, each another: what was made with one kept or lost
# up to seven points more of the source from seed to seed.
GENERATORS = 3


def bank(
    kind: Literal["source", "figures"],
    model: nn.Module,
    spec: InputSpec,
    trainer: Trainer,
    *,
    num_classes: int,
    steps: int,
    images: int,
) -> tuple[Split, dict[str, History]]:
    """What several generators of :func:`~freehold.authorization.synthesis.synthesise` make, interleaved.

    ``"figures"`` are those of :func:`~freehold.authorization.figures.draw_figures` instead.

    What a generator made is taken from the cache if it is there. It belongs to the model's weights, the
    settings, the generator's number and the precision. A file that is damaged or cannot be written costs
    time, not the result.

    Args:
        kind: of what.
        model: the trained network, in evaluation mode and on the trainer's device; not changed.
        spec: the network's input.
        trainer: runs the fits; its seed chooses the generators.
        num_classes: K of the network's logits.
        steps: optimiser steps of each generator.
        images: how many each draws.

    Returns:
        ``GENERATORS * images`` synthetic images, and the curves of the fits, whenever these were.
    """
    settings = {"steps": steps, "images": images, "num_classes": num_classes}
    subject = [type(model).__qualname__, state_hash(model), spec.model_dump(mode="json")]
    name, make = ("synthesis", synthesise) if kind == "source" else ("figures", draw_figures)
    parts, histories = [], {}
    for number in range(trainer.run.seed * GENERATORS, (trainer.run.seed + 1) * GENERATORS):
        key = fingerprint([FORMAT, kind, *subject, settings, number, trainer.run.precision])
        path = cache_folder() / f"{key}.safetensors"
        found = _read(path) if path.exists() else None
        if found is not None:
            logger.info("synthetic images from %s", path)
        else:
            found = make(
                model, spec, trainer, number=number, num_classes=num_classes, steps=steps, images=images
            )
            if trainer.accelerator.is_main_process:
                _write(path, *found)
        part, history = found
        parts.append(part)
        histories[f"{name}-{number}"] = history
    pictures = torch.stack([part.images for part in parts], 1).flatten(0, 1)
    return Split(pictures, torch.stack([part.labels for part in parts], 1).flatten()), histories


def cache_folder() -> Path:
    """``$FREEHOLD_CACHE/banks``, or ``freehold/banks`` in the XDG cache folder."""
    own = os.environ.get("FREEHOLD_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return (Path(own) if own else Path(base) / "freehold") / "banks"


def _read(path: Path) -> tuple[Split, History] | None:
    try:
        tensors, metadata = read_safetensors(path)
        history = History(**json.loads(metadata["history"]))
        return Split(tensors["images"], tensors["labels"]), history
    except (FreeholdError, KeyError, TypeError, ValueError) as error:
        logger.warning("the synthetic images in %s cannot be used and are made again: %s", path, error)
        return None


def _write(path: Path, split: Split, history: History) -> None:
    tensors: dict[str, torch.Tensor] = {"images": split.images, "labels": split.labels}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, save(tensors, {"history": json.dumps(history.to_json())}))
    except (OSError, OutputError) as error:
        logger.warning("the synthetic images are not kept: %s", error)
