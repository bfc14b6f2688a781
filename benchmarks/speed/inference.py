"""What a shipped model costs whoever runs it, against the model it was made of."""

from __future__ import annotations

from functools import cache, partial

import torch
from torch import nn

import freehold as fh
from benchmarks.speed.figures import Figure, Measurable
from benchmarks.speed.marked import images, marked, quietly
from benchmarks.speed.measures import Here, Subject
from benchmarks.speed.ratio import Ratio
from benchmarks.speed.stepper import digits
from freehold.models.fusion import Branch, Fused, pooling
from freehold.models.layers import attach_masks
from freehold.ownership.calibration import operations

MORE = 0.05  # of the gate's overhead beyond the proprietary network's share of operations


def fused() -> Fused:
    return Fused(fh.load_model("resnet20", 10), Branch(10, pool=pooling((32, 32)))).eval()


def share() -> float:
    """Products of the proprietary network over the target's."""
    model, image = fused(), images(1)
    return operations(model.branch, image) / operations(model.target, image)


def gated(batch: int) -> tuple[Subject, Subject]:
    model = fused()
    calls = [Here(partial(quietly, network, images(batch))) for network in (model, model.target)]
    return calls[0], calls[1]


def private(uri: str) -> tuple[Subject, Subject]:
    model, key = marked("passport", uri)
    other = fh.Passport(steps=2).private(model, key)
    return Here(partial(quietly, other, images(1))), Here(partial(quietly, model, images(1)))


@cache
def pruned() -> tuple[nn.Module, nn.Module, dict[str, torch.Tensor]]:
    """What MAP ships, what it was made of, and the mask."""
    model = fh.load_model("convnet", 10).eval()
    found = fh.MAP(steps=3, batch_size=8).protect(model, digits(), run=fh.Run(device="cpu", progress=False))
    return found.model.eval(), model, dict(found.mask or {})


def shipped() -> tuple[Subject, Subject]:
    protected, model, _ = pruned()
    return Here(partial(quietly, protected, images(32))), Here(partial(quietly, model, images(32)))


class SameAsMasked:
    """A model shipped by MAP is plain: as many parameters, and the outputs of the masked one."""

    def measure(self, quick: bool) -> list[Figure]:
        """Parameters and the largest difference."""
        (protected, model, mask), batch = pruned(), images(32)
        masked = fh.load_model("convnet", 10).eval()
        masked.load_state_dict(model.state_dict())
        for name, score in attach_masks(masked, list(mask)).items():
            score.data = torch.where(mask[name], 0.01, 0.0)
        difference = float((quietly(protected, batch) - quietly(masked, batch)).abs().max())
        count = [sum(p.numel() for p in m.parameters()) for m in (protected, model)]
        return [
            Figure("map: shipped / original, parameters", count[0] / count[1], 1.0, kind="amount"),
            Figure("map: shipped - masked outputs, largest", difference, 1e-6, kind="amount"),
        ]


def inference() -> list[Measurable]:
    allowed = 1 + share() + MORE
    return [
        Ratio("map: shipped / original, batch 32", shipped, 1.02),
        SameAsMasked(),
        *(
            Ratio(f"passport: private / public, batch 1, {uri}", partial(private, uri), 1.05)
            for uri in ("convnet", "resnet20")
        ),
        *(
            Ratio(f"ptynet: gate / target, batch {batch}", partial(gated, batch), allowed)
            for batch in (1, 16, 128)
        ),
    ]
