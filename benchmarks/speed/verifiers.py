"""Each verifier against what it cannot avoid: the suspect's own answers, or reading its weights once."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks.speed.figures import Figure
from benchmarks.speed.marked import images, marked, quietly
from benchmarks.speed.measures import Here, Subject, seconds
from benchmarks.speed.ratio import Ratio
from freehold.keys import Key
from freehold.models.norm_pairs import NormPair
from freehold.ownership.base import method_of, verify
from freehold.ownership.passport_marks import projected
from freehold.ownership.suspect import suspect


def verifying(model: nn.Module, key: Key) -> Any:
    from freehold.data import InputSpec

    asked = suspect(model, input=InputSpec(**key.facts["input"]))
    return verify(asked, key, commitment=key.commitment)


def answering(method: str) -> tuple[Subject, Subject]:
    """Against one forward pass of as many images."""
    model, key = marked(method)
    batch = images(method_of(key).questions(key))
    return Here(partial(verifying, model, key)), Here(partial(quietly, model, batch))


def reading() -> tuple[Subject, Subject]:
    """Against one projection of each marked layer's filters."""
    model, key = marked("passport")
    pairs = [NormPair(**pair) for pair in key.facts["layers"]]
    directions = {pair: torch.randn(pair.fan_in) for pair in pairs}

    def read() -> list[torch.Tensor]:
        with torch.inference_mode():
            return [projected(model.get_parameter(f"{p.layer}.weight"), directions[p]) for p in pairs]

    return Here(partial(verifying, model, key)), Here(read)


class HundredTriggers:
    """The promise in seconds."""

    def measure(self, quick: bool) -> list[Figure]:
        """Processor seconds, the better of two."""
        call = partial(verifying, *marked("trigger-set"))
        taken = min(seconds(call), seconds(call))
        return [Figure("100 triggers against a ResNet-20, seconds", taken, 1.0, kind="amount")]


VERIFIERS = [
    Ratio("trigger-set: verify / bare answers", partial(answering, "trigger-set"), memory=float("inf")),
    Ratio("ptynet: verify / bare answers", partial(answering, "ptynet"), memory=float("inf")),
    Ratio("passport: verify / reading the weights once", reading),
    HundredTriggers(),
]
