"""Fine-tuning attacks: the last layer or all layers, with the old classifier or a new one."""

from __future__ import annotations

import copy
import math
from contextlib import ExitStack
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from freehold.attacks.base import Attack, Taken, leaked
from freehold.data.batches import Augment
from freehold.data.domain import Domain, InputSpec
from freehold.errors import ModelError
from freehold.metrics.accuracy import share_correct
from freehold.models.anatomy import dry_run, find_head, maskable_weights
from freehold.models.zeros import held_at_zero
from freehold.plugin import Card, Problem
from freehold.seeds import global_draws
from freehold.training import Loop, Trainer, Validation
from freehold.training.classifier import cross_entropy

LAST_ONLY = ("FTLL", "RTLL", "initFC-FC")  # what trains the last layer alone


class FineTune(Attack):
    """Trains the stolen model further on the attacker's labelled images."""

    name = "fine-tune"
    card: ClassVar[Card] = Card(
        title="Fine-tuning: FTLL, FTAL, RTLL, RTAL, initFC-all, initFC-FC",
        paper="Turning Your Weakness Into a Strength: Watermarking Deep Neural Networks by Backdooring; "
        "Toward Robust Non-Transferable Learning: A Survey and Benchmark",
        venue="USENIX Security 2018; IJCAI 2025",
        goal="Train a stolen model further so that a protection or a watermark is forgotten.",
        changed=(
            "the state best on the attacker's validation images is kept, the last one beside it",
            "redrawn layers take the scale that torch gives new ones",
            "RTAL redraws every layer of a classifier of several, as the benchmark does; the older "
            "publication's, which redraws the last one, is initFC-all",
        ),
        undisclosed=("later benchmarks use the same names for other lengths and learning rates",),
        needs=("labelled images of the domain that the attacker wants to use",),
        breaks=("too few images: the last layer alone overfits, all layers forget the task",),
    )
    stronger: ClassVar[dict[str, Any]] = {"lr": 0.05, "epochs": 30.0, "schedule": "halving"}

    variant: Literal["FTLL", "FTAL", "RTLL", "RTAL", "initFC-all", "initFC-FC"] = Field(
        "FTAL",
        description="LL trains the last layer only, AL all; FT from the weights as they are, RT after "
        "redrawing the last layer (RTLL) or the whole classifier (RTAL); initFC redraws the last layer and "
        "trains all or it alone, which is RTLL",
    )
    zeros: Literal["free", "kept"] = Field("free", description="whether weights that are zero may grow")
    share: float = Field(1.0, gt=0, le=1, description="of the domain's training images that leaked")
    epochs: float = Field(20.0, gt=0, le=10_000, description="passes over the attacker's images")
    lr: float = Field(0.01, gt=0, le=10, description="SGD with momentum 0.9")
    weight_decay: float = Field(5e-4, ge=0, le=1)
    schedule: Literal["constant", "cosine", "halving"] = Field(
        "constant", description="halving: half the learning rate after each sixth of the epochs"
    )
    batch_size: int = Field(64, ge=2, le=65536, json_schema_extra={"unit": "images"})
    shift: int = Field(2, ge=0, le=64, description="random translation", json_schema_extra={"unit": "pixels"})
    flip: bool = Field(False, description="random mirroring; wrong for digits and text")

    def _problems(self, model: nn.Module, domain: Domain, spec: InputSpec) -> list[Problem]:
        try:
            find_head(model, spec.example())
        except ModelError as error:
            return [Problem(where=error.where or "model", what=error.what, fix=error.fix)]
        return []

    def _run(self, model: nn.Module, domain: Domain, spec: InputSpec, trainer: Trainer) -> Taken:
        head = find_head(model, spec.example())
        if not self.variant.startswith("FT"):
            redrawn = classifier_layers(model, spec.example()) if self.variant == "RTAL" else [head]
            with global_draws(trainer.run.seed, "new head"):
                for name in redrawn:
                    model.get_submodule(name).reset_parameters()  # type: ignore[operator]
        if self.variant in LAST_ONLY:
            model.requires_grad_(False)
            model.get_submodule(head).requires_grad_(True)
        images = leaked(domain.train, self.share, trainer.run.seed)
        augment = Augment(shift=self.shift, flip=self.flip)
        stream = trainer.batches(images, spec, self.batch_size, "attack", augment=augment)
        steps = max(1, round(self.epochs * len(images) / self.batch_size))
        last: list[nn.Module] = []

        def validate() -> Validation:
            accuracy = share_correct(model, domain.val, spec, precision=trainer.run.precision)
            return Validation(accuracy, {"accuracy": accuracy})

        loop = Loop(
            steps=steps,
            optimizer="sgd",
            lr=self.lr,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            evaluate_every=math.ceil(steps / 10),
        )
        live = {w: w != 0 for w in maskable_weights(model).values()} if self.zeros == "kept" else {}
        mode: Literal["train", "eval"] = "eval" if self.variant in LAST_ONLY else "train"
        with held_at_zero(live):
            history = trainer.fit(
                model,
                cross_entropy,
                {"train": stream},
                loop,
                name=self.name,
                mode=mode,
                validate=validate,
                finish=lambda: last.append(copy.deepcopy(model)),
            )
        return Taken(model, last[0], images=len(images), history=history)


def classifier_layers(model: nn.Module, example: Tensor) -> list[str]:
    """The linear layers that end the network: those called after the last other module with weights.

    Only the last one of a network of linear layers alone, which has no trunk that they could be parted from.
    """
    called: list[str] = []
    with ExitStack() as hooks:
        for name, module in model.named_modules():
            if next(module.parameters(recurse=False), None) is not None:
                handle = module.register_forward_hook(lambda *_, name=name: called.append(name))
                hooks.callback(handle.remove)
        dry_run(model, example)
    others = [n for n, name in enumerate(called) if not isinstance(model.get_submodule(name), nn.Linear)]
    return called[others[-1] + 1 :] if others else called[-1:]
