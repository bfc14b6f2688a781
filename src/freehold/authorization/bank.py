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


def bank(
    kind: Literal["source", "figures"],
    model: nn.Module,
    spec: InputSpec,
    trainer: Trainer,
    *,
    num_classes: int,
    steps: int,
    images: int,
) -> tuple[Split, History]:
    """What :func:`~freehold.authorization.synthesis.synthesise` makes, from the cache if it is there.

    ``"figures"`` are those of :func:`~freehold.authorization.figures.draw_figures` instead.

    A bank belongs to the model's weights, the settings, the seed and the precision. A file that is
    damaged or cannot be written costs time, not the result.

    Returns:
        The synthetic split and the curve of the fit that made it, whenever that was.
    """
    settings = {"steps": steps, "images": images, "num_classes": num_classes}
    subject = [type(model).__qualname__, state_hash(model), spec.model_dump(mode="json")]
    key = fingerprint([FORMAT, kind, *subject, settings, trainer.run.seed, trainer.run.precision])
    path = cache_folder() / f"{key}.safetensors"
    found = _read(path) if path.exists() else None
    if found is not None:
        logger.info("synthetic images from %s", path)
        return found
    make = synthesise if kind == "source" else draw_figures
    split, history = make(model, spec, trainer, num_classes=num_classes, steps=steps, images=images)
    if trainer.accelerator.is_main_process:
        _write(path, split, history)
    return split, history


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
