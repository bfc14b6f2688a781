"""Surgery: taking a network out of what was built around it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor, nn

from freehold.attacks.base import Attack, Taken
from freehold.attacks.fine_tune import FineTune
from freehold.data.domain import Domain, InputSpec
from freehold.errors import ModelError
from freehold.metrics.accuracy import share_correct
from freehold.models.anatomy import dry_run
from freehold.plugin import Card
from freehold.training import Trainer

DEPTH = 2  # how far inside a network is looked for


class CutBranch(Attack):
    """Looks inside the model for a network that does the whole work alone, and throws the rest away."""

    name = "cut-branch"
    card: ClassVar[Card] = Card(
        title="Branch removal",
        paper="Free Fine-tuning: A Plug-and-Play Watermarking Scheme for Deep Neural Networks",
        venue="ACM MM 2023",
        identifier="arXiv:2210.07809",
        goal="Keep the network that answers ordinary images, and cut off what only serves a watermark.",
        changed=("the publication does not consider this attack",),
        undisclosed=(),
        needs=("weights", "labelled images to see that nothing was lost"),
        breaks=("marks that are in the weights of the network itself",),
    )
    stronger: ClassVar[dict[str, Any]] = {"epochs": 5.0}

    loss: float = Field(
        0.005, ge=0, le=1, description="of accuracy on the attacker's images that is put up with"
    )
    epochs: float = Field(0.0, ge=0, le=1000, description="of fine-tuning all layers afterwards")

    def _run(self, model: nn.Module, domain: Domain, spec: InputSpec, trainer: Trainer) -> Taken:
        enough = share_correct(model, domain.val, spec) - self.loss
        for inner in inner_networks(model, spec.example()):
            if share_correct(inner, domain.val, spec) >= enough:
                model = inner
                break
        if not self.epochs:
            return Taken(model, images=len(domain.val))
        return FineTune(epochs=self.epochs, lr=1e-3)._run(model, domain, spec, trainer)


def inner_networks(model: nn.Module, example: Tensor) -> Iterator[nn.Module]:
    """Parts of ``model`` that take its images and give as many logits, the smallest first.

    Args:
        model: looked at to a depth of two.
        example: images as the model takes them.
    """
    classes = dry_run(model, example).shape[1]
    parts = [part for name, part in model.named_modules() if name and name.count(".") < DEPTH]
    for part in sorted(parts, key=lambda part: sum(p.numel() for p in part.parameters())):
        if next(part.parameters(), None) is None:
            continue
        try:
            fits = dry_run(part, example).shape[1] == classes
        except ModelError:
            continue
        if fits:
            yield part
