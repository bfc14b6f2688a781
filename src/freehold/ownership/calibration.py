"""When the gate of a branch opens, and what the record says about it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from freehold.attacks.filter import FILTERS
from freehold.data.batches import normalise
from freehold.data.inputs import InputSpec
from freehold.keys import Stream
from freehold.models.fusion import Fused, margin
from freehold.ownership.backgrounds import Foregrounds, backgrounds
from freehold.ownership.branch import throw_away
from freehold.statistics import clopper_pearson

ABOVE = 1e-4  # of the margin where a gate would just open: sums round
LOST = 0.005  # share of triggers that the threshold may lose
WORN = ("blur", "noise", "crop", "jpeg")  # filters of a thief's service, at their mild setting


class Calibration:
    """A fused model before the threshold of its gate is set, and images to set it by.

    Args:
        fused: in evaluation mode.
        spec: its input.
        ordinary: uint8 ``(n, C, H, W)`` that the branch was not trained on; one half sets the threshold,
            the other counts how often it is passed.
        triggers: uint8, own backgrounds behind things that the branch was not trained on.
    """

    def __init__(self, fused: Fused, spec: InputSpec, ordinary: Tensor, triggers: Tensor) -> None:
        self.fused, self.spec, self.triggers = fused, spec, triggers
        self.chosen_on, self.counted_on = ordinary[0::2], ordinary[1::2]
        self.threshold = 0.0

    def set_threshold(self, share: float) -> tuple[str, ...]:
        """The least threshold that at most ``share`` of the ordinary images pass, or half of what nearly all
        triggers pass if that is more: ordinary images beyond those at hand are to stay below as well. It
        is added to the bias of "none", but for the published fusion, which has no gate.

        Returns:
            What the user has to know.
        """
        clean = self.margins(self.chosen_on).sort(descending=True).values
        least = clean[min(len(clean) - 1, int(share * len(clean)))].clamp_min(0) + ABOVE
        own = self.margins(self.triggers).quantile(LOST)
        if self.fused.fusion != "probability_sum":
            self.threshold = float(torch.maximum(least, own / 2))
            head = self.fused.branch.get_submodule("head")
            assert isinstance(head, nn.Linear)
            with torch.no_grad():
                head.bias[-1] += self.threshold
        notes: tuple[str, ...] = ()
        if own <= least:
            notes += (f"more than {LOST:.1%} of the triggers do not open the gate: train longer",)
        if (bound := clopper_pearson(0, len(self.counted_on)).high) > share:
            notes += (
                f"{len(self.counted_on)} ordinary images cannot show fewer than {bound:.2g} activations an "
                f"image, whatever was asked for ({share:g})",
            )
        return notes

    def margins(self, images: Tensor) -> Tensor:
        """By how much the branch prefers a class to "none", ``(n,)``."""
        return margin(self._answers(self.fused.branch, images))

    def labels(self, images: Tensor, model: nn.Module | None = None) -> Tensor:
        """Answers of the fused model, or of another one, int64 ``(n,)``."""
        return self._answers(model or self.fused, images).argmax(1)

    def opened(self, images: Tensor) -> Tensor:
        """Whether the gate opens, bool ``(n,)``."""
        return self.margins(images) >= 0

    @torch.no_grad()
    def _answers(self, model: nn.Module, images: Tensor) -> Tensor:
        device = next(self.fused.parameters()).device
        parts = [
            model(normalise(part.to(device), self.spec)).float().cpu() for part in torch.split(images, 256)
        ]
        return torch.cat(parts)


def figures_of(
    found: Calibration, trial: Tensor, expected: Tensor, draws: torch.Generator
) -> dict[str, float]:
    """What the record says of a branch.

    Args:
        found: with its threshold set.
        trial: uint8 ``(n, C, H, W)``, the images a suspect is asked about.
        expected: int64 ``(n,)``, their answers.
        draws: of other owners' backgrounds.
    """
    fused, ordinary = found.fused, found.counted_on
    blank = found.spec.example()[:1].to(next(fused.parameters()).device)
    products = [operations(network, blank) for network in (fused.branch, fused.target)]
    weights = [sum(p.numel() for p in network.parameters()) for network in (fused.branch, fused.target)]
    passed, count = int(found.opened(ordinary).sum()), len(ordinary)
    other = Stream(throw_away(draws))
    foreign = Foregrounds(other, 256, found.spec).before(backgrounds(other, 256, found.spec))
    return {
        "triggers": _share(found.labels(trial) == expected),
        **{f"triggers after {name}": _share(found.labels(_washed(name, trial)) == expected) for name in WORN},
        "ordinary images": float(count),
        "ordinary images that open the gate": float(passed),
        "their share is at most": clopper_pearson(passed, count).high,
        "ordinary images answered otherwise": _share(
            found.labels(ordinary) != found.labels(ordinary, fused.target)
        ),
        "other owners' images that open the gate": _share(found.opened(foreign)),
        "threshold of the gate": found.threshold,
        "weights of the branch": float(weights[0]),
        "its weights to the target's": weights[0] / weights[1],
        "its operations to the target's": products[0] / products[1],
    }


def _washed(name: str, images: Tensor) -> Tensor:
    return (FILTERS[name](images.float() / 255, 1.0) * 255).round().clamp(0, 255).to(torch.uint8)


def _share(right: Tensor) -> float:
    return float(right.float().mean())


@torch.no_grad()
def operations(network: nn.Module, image: Tensor) -> int:
    """Additions and multiplications of one forward pass of ``image``."""
    from torch.utils.flop_counter import FlopCounterMode  # brings triton, which nobody needs who verifies

    with FlopCounterMode(display=False) as counter:
        network(image)
    return int(counter.get_total_flops())
