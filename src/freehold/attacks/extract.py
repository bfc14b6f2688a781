"""Model extraction: a new network trained on the answers of the stolen service."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from freehold.attacks.attacker import untrained
from freehold.attacks.base import Attack, Taken
from freehold.data.batches import Augment, Batch
from freehold.data.domain import Domain, InputSpec
from freehold.data.sources import load_domain
from freehold.metrics.accuracy import apply, predict
from freehold.models.zoo import ModelSpec
from freehold.plugin import Access, Card
from freehold.seeds import derive
from freehold.training import Loop, Trainer, Validation
from freehold.training.losses import distillation


class Extract(Attack):
    """Asks the model once about each of the attacker's images and trains another network on the answers."""

    name = "extract"
    access: ClassVar[Access] = Access.PROBABILITIES
    card: ClassVar[Card] = Card(
        title="Extraction: retraining on hard or soft labels, distillation, knockoff, cross-architecture",
        paper="Knockoff Nets: Stealing Functionality of Black-Box Models; Distilling the Knowledge in a "
        "Neural Network",
        venue="CVPR 2019; NIPS 2014 workshop",
        goal="Copy what the model does without its weights, so that nothing hidden in them comes along.",
        changed=("images are queried once, as they are; training on them is augmented",),
        undisclosed=("which images are asked about decides more than the method: they are a field here",),
        needs=("answers of the model, no labels of one's own",),
        breaks=("marks that are part of what the model does on ordinary images",),
    )
    stronger: ClassVar[dict[str, Any]] = {"epochs": 60.0}

    answers: Literal["soft", "hard"] = Field("soft", description="probabilities, or the first choice only")
    architecture: str | None = Field(None, description="URI of the new network; by default the same kind")
    images: str | None = Field(
        None,
        description="URI of other images to ask about, as knockoff does; by default the attacker's own",
    )
    temperature: float = Field(
        1.0, gt=0, le=100, description="softens soft answers; 3 to 20 are published for distillation"
    )
    epochs: float = Field(20.0, gt=0, le=10_000, description="passes over the images")
    lr: float = Field(3e-3, gt=0, le=10, description="AdamW, one cycle")
    batch_size: int = Field(64, ge=2, le=65536, json_schema_extra={"unit": "images"})
    shift: int = Field(2, ge=0, le=64, description="random translation", json_schema_extra={"unit": "pixels"})
    flip: bool = Field(False, description="random mirroring; wrong for digits and text")

    def _run(self, model: nn.Module, domain: Domain, spec: InputSpec, trainer: Trainer) -> Taken:
        precision = trainer.run.precision
        asked = domain if self.images is None else load_domain(self.images)
        seen = apply(model, asked.train, spec, precision=precision).clone()
        held_out = predict(model, asked.val, spec, precision=precision)
        knockoff = self._network(model, domain, spec, trainer).to(trainer.device)
        augment = Augment(shift=self.shift, flip=self.flip)
        stream = trainer.batches(asked.train, spec, self.batch_size, "attack", augment=augment)
        last: list[nn.Module] = []

        def objective(forward: nn.Module, batches: Mapping[str, Batch], step: int) -> dict[str, Tensor]:
            batch = batches["train"]
            logits, said = forward(batch.images).float(), seen[batch.indices]
            if self.answers == "hard":
                return {"loss": F.cross_entropy(logits, said.argmax(1))}
            t = self.temperature
            return {"loss": t * t * distillation(logits / t, said / t)}

        def validate() -> Validation:
            same = predict(knockoff, asked.val, spec, precision=precision) == held_out
            agreement = float(same.float().mean())
            return Validation(agreement, {"agreement": agreement})

        steps = max(1, round(self.epochs * len(asked.train) / self.batch_size))
        loop = Loop(
            steps=steps,
            optimizer="adamw",
            lr=self.lr,
            weight_decay=5e-4,
            schedule="one-cycle",
            evaluate_every=math.ceil(steps / 10),
        )
        history = trainer.fit(
            knockoff,
            objective,
            {"train": stream},
            loop,
            name=self.name,
            validate=validate,
            finish=lambda: last.append(copy.deepcopy(knockoff)),
        )
        queries = len(asked.train) + len(asked.val)
        return Taken(knockoff, last[0], images=queries, queries=queries, history=history)

    def _network(self, model: nn.Module, domain: Domain, spec: InputSpec, trainer: Trainer) -> nn.Module:
        seed = derive(trainer.run.seed, "copy")
        if self.architecture is None:
            return untrained(model)(seed)
        wanted = ModelSpec(uri=self.architecture, num_classes=domain.num_classes, channels=spec.channels)
        return wanted.build(load_weights=False, seed=seed)
