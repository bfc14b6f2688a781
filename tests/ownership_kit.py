"""Keys and suspects that cost nothing."""

from __future__ import annotations

from collections.abc import Callable

import torch

from freehold.data import InputSpec
from freehold.keys import Key
from freehold.ownership.suspect import CallableSuspect
from freehold.ownership.trigger_set import TriggerSet
from freehold.ownership.triggers import trial_images

SPEC = InputSpec(size=8)


def trigger_key(number: int = 0, *, method: TriggerSet | None = None, classes: int = 10) -> Key:
    """Key ``number``, as if a model had been marked with it."""
    method = method or TriggerSet(triggers=100)
    facts = {"input": SPEC.model_dump(mode="json"), "num_classes": classes}
    return Key(number.to_bytes(32, "big"), "ACME").bound(method.name, method.model_dump(mode="json"), facts)


def answers(function: Callable[[int], torch.Tensor], classes: int = 10) -> CallableSuspect:
    """A suspect whose answers depend on how many images it is asked about."""
    return CallableSuspect(lambda images: function(len(images)), SPEC, classes)


def knowing(key: Key, share: float = 1.0) -> CallableSuspect:
    """A suspect that gives the secret answer to the first ``share`` of the triggers, class 0 else."""
    count = key.settings["triggers"]
    images = trial_images(key.settings["kind_of_trigger"], key, count, SPEC).float()
    labels = key.stream("labels").integers(key.facts["num_classes"], count)
    labels[round(share * count) :] = 0

    def look_up(batch: torch.Tensor) -> torch.Tensor:
        pixels = ((batch + 1) * 127.5).round()
        return labels[torch.cdist(pixels.flatten(1), images.flatten(1)).argmin(1)]

    return CallableSuspect(look_up, SPEC, int(key.facts["num_classes"]))
