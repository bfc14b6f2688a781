"""Expanded residual blocks: norms of a forger's own that do the work of those that passports are behind."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from freehold.attacks.ambiguity import fit_private, forgeable
from freehold.attacks.base import Attack, Taken, leaked
from freehold.data.domain import Domain, InputSpec
from freehold.errors import ModelError
from freehold.models.norm_pairs import NormPair
from freehold.models.two_branches import with_numbers
from freehold.plugin import Card, Problem
from freehold.seeds import global_draws
from freehold.training import Loop, Trainer

Kind = Literal["cross-channel", "individual", "plain"]


class Substitute(Attack):
    """Learns scales and shifts anew, with a block behind each scale, on a few images and frozen filters.

    The network that comes out has the model's filters and other norms: a private branch that nobody gave the
    forger. :func:`~freehold.attacks.ambiguity.explained` finds passports for it.
    """

    name = "substitute"
    card: ClassVar[Card] = Card(
        title="Fully-connected layer substitution: expanded residual blocks (IERB, CERB)",
        paper="Effective Ambiguity Attack Against Passport-based DNN Intellectual Property Protection "
        "Schemes through Fully Connected Layer Substitution",
        venue="CVPR 2023",
        identifier="arXiv:2303.11595",
        goal="Claim somebody else's model: give its filters a private branch that works as well.",
        changed=(
            "the learned blocks are folded into the norms they end in, and passports that give these are "
            "solved for in closed form",
            "layers with more filters than weights in each, such as a first layer, keep their norms",
        ),
        undisclosed=("epochs and learning rate",),
        needs=("weights", "a tenth of the training images, or fewer"),
        breaks=(
            "bits that are drawn from a secret and a commitment to it: the new norms say nothing about these",
        ),
    )
    stronger: ClassVar[dict[str, Any]] = {"share": 1.0, "epochs": 100.0}

    block: Kind = Field("cross-channel", description="over all channels, each by itself, or none")
    share: float = Field(0.1, gt=0, le=1, description="of the training images that the forger has")
    epochs: float = Field(50.0, gt=0, le=10_000, description="passes over these")
    lr: float = Field(3e-3, gt=0, le=1, description="Adam, at its highest")

    def _problems(self, model: nn.Module, domain: Domain, spec: InputSpec) -> list[Problem]:
        try:
            forgeable(model, spec.example())
        except ModelError as error:
            return [Problem(where="model", what=error.what, fix=error.fix)]
        return []

    def _run(self, model: nn.Module, domain: Domain, spec: InputSpec, trainer: Trainer) -> Taken:
        seed = trainer.run.seed
        images = leaked(domain.train, self.share, seed)
        pairs = forgeable(model, spec.example())
        with global_draws(seed, "blocks"):
            affine = Blocks(pairs, self.block)
        steps = max(1, round(self.epochs * len(images) / 64))
        loop = Loop(steps=steps, lr=self.lr, schedule="cosine")
        numbers, history = fit_private(model, pairs, affine, images, spec, trainer, loop)
        with torch.no_grad():
            for pair, (scale, shift) in zip(pairs, affine(model), strict=True):
                numbers.setdefault(pair.norm, {}).update(weight=scale, bias=shift)
        return Taken(with_numbers(model, numbers), images=len(images), history=history)


class Blocks(nn.Module):
    """``forward(model)`` gives each layer's scale, which went through a residual block, and its shift."""

    def __init__(self, pairs: tuple[NormPair, ...], kind: Kind) -> None:
        super().__init__()
        self.kind = kind
        self.scales = nn.ParameterList(torch.ones(pair.channels) for pair in pairs)
        self.shifts = nn.ParameterList(torch.zeros(pair.channels) for pair in pairs)
        sizes = [(1, 10) if kind == "individual" else (p.channels, max(1, p.channels // 8)) for p in pairs]
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(outer, inner), nn.LeakyReLU(), nn.Linear(inner, outer))
            for outer, inner in sizes
            if kind != "plain"
        )

    def forward(self, model: nn.Module) -> list[tuple[Tensor, Tensor]]:
        """Scale and shift of each layer, ``(C,)`` each."""
        scales: list[Tensor] = list(self.scales)
        with torch.autocast(scales[0].device.type, enabled=False):
            if self.kind == "individual":
                scales = [s + block(s[:, None])[:, 0] for s, block in zip(scales, self.blocks, strict=True)]
            elif self.kind == "cross-channel":
                scales = [s + block(s) for s, block in zip(scales, self.blocks, strict=True)]
        return list(zip(scales, self.shifts, strict=True))
