"""Sample-wise learning curves: fine-tune everything on n labelled images, for growing n, and test."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor

from freehold.attacks.attacker import Start
from freehold.data.carve import stratified_order
from freehold.data.domain import Domain, InputSpec, Split
from freehold.errors import DataError
from freehold.metrics.accuracy import share_correct
from freehold.metrics.learning_curve import LearningCurve, check_sizes
from freehold.seeds import derive, generator
from freehold.settings import Settings
from freehold.training import Loop, Run, Trainer
from freehold.training.classifier import cross_entropy
from freehold.training.progress import progress

SIZES = (10, 20, 50, 100, 200, 500, 1000, 2000)


class Budget(Settings):
    """One fine-tuning recipe, the same for every attacker and for the reference.

    The last state is kept: an attacker with ten images has none to choose on.
    """

    name: str
    lrs: tuple[float, ...] = Field(
        (1e-3,), min_length=1, description="Adam; of several, the best on the domain's validation images"
    )
    weight_decay: float = Field(0.0, ge=0, le=1)
    batch_size: int = Field(32, ge=2, description="at most; never more than there are images")
    schedule: Literal["constant", "half-linear"] = "half-linear"
    patience: float = Field(
        1.0, gt=0, description="multiplies 60 steps up to 50 images, 100 to 500, 150 above"
    )
    epochs: int | None = Field(None, ge=1, description="passes over the images, in the place of steps")

    def steps(self, images: int) -> int:
        """Optimiser steps on ``images`` labelled images."""
        if self.epochs is not None:
            return self.epochs * -(-images // min(self.batch_size, images))
        return max(1, round(self.patience * (60 if images <= 50 else 100 if images <= 500 else 150)))


BUDGETS = {
    budget.name: budget
    for budget in (
        Budget(name="equal"),
        Budget(name="patient", patience=4.0),
        Budget(name="swept", lrs=(3e-4, 1e-3, 3e-3)),
        # The attacker of the reference code of NTP: 30 epochs are 30 tiny steps for up to 128 images.
        Budget(
            name="published", lrs=(1e-4,), weight_decay=8e-4, batch_size=128, schedule="constant", epochs=30
        ),
    )
}


class Grid(Settings):
    """Where a curve is measured."""

    sizes: tuple[int, ...] = Field(SIZES, description="labelled images, strictly ascending")
    seeds: int = Field(3, ge=1, le=1000, description="repeats: other images, other initial weights")

    @model_validator(mode="after")
    def _ascending(self) -> Grid:
        check_sizes(self.sizes)
        return self


def learning_curve(
    name: str,
    start: Start,
    domain: Domain,
    spec: InputSpec,
    budget: Budget,
    grid: Grid,
    run: Run | None = None,
) -> LearningCurve:
    """Test accuracy on ``domain`` after fine-tuning on ``n`` of its training images, for each ``n``.

    Larger sets contain the smaller ones and hold the classes in proportion; the same seed gives the same
    images whoever attacks.

    Args:
        name: of the attacker, for the curve.
        start: the model to train, by seed, with one logit for each class of ``domain``.
        domain: its ``train`` is the attacker's, ``val`` chooses between learning rates, ``test`` reports.
        spec: the model's input.
        budget: the recipe.
        grid: sizes, repeats, test images.
        run: device, precision and seed.

    Raises:
        DataError: the grid asks for more images than there are.
        TrainingError: the loss became NaN or infinite.
    """
    if grid.sizes[-1] > len(domain.train):
        raise DataError(
            f"{grid.sizes[-1]} images asked for, {len(domain.train)} to be had",
            where=f"sizes of the learning curve on {domain.name}",
            fix="end the grid earlier",
        )
    run = (run or Run()).model_copy(update={"directory": None, "trackers": ()})
    trainer = Trainer(run.model_copy(update={"progress": False}))
    orders = [
        stratified_order(domain.train.labels, generator(run.seed, "subset", seed))
        for seed in range(grid.seeds)
    ]
    rows: list[tuple[float, ...]] = []
    with progress(f"curve: {name}", grid.seeds * len(grid.sizes), visible=run.progress) as report:
        for seed, order in enumerate(orders):
            row: list[float] = []
            for n in grid.sizes:
                images = domain.train.take(order[:n])
                row.append(_accuracy(start, images, domain, spec, budget, trainer, seed))
                report(seed * len(grid.sizes) + len(row), {"n": n, "accuracy": row[-1]})
            rows.append(tuple(row))
    return LearningCurve(attacker=name, budget=budget.name, sizes=grid.sizes, accuracies=tuple(rows))


def _accuracy(
    start: Start,
    images: Split,
    domain: Domain,
    spec: InputSpec,
    budget: Budget,
    trainer: Trainer,
    seed: int,
) -> float:
    """Of the learning rates' results the test accuracy of the one best on validation images."""
    n, precision = len(images), trainer.run.precision
    size = min(budget.batch_size, n)
    found: list[tuple[float, float]] = []
    for lr in budget.lrs:
        model = start(derive(trainer.run.seed, "start", seed, n))
        stream = trainer.batches(images, spec, size, f"curve-{seed}-{n}")
        loop = Loop(steps=budget.steps(n), lr=lr, weight_decay=budget.weight_decay, schedule=budget.schedule)
        trainer.fit(model, cross_entropy, {"train": stream}, loop, name=f"curve-{seed}-{n}-{lr}")
        chosen = (
            share_correct(model, domain.val, spec, limit=500, precision=precision)
            if len(budget.lrs) > 1
            else 0.0
        )
        found.append((chosen, share_correct(model, domain.test, spec, precision=precision)))
    return max(found, key=lambda pair: pair[0])[1]


def attackers_share(domain: Domain) -> Domain:
    """The images of ``domain`` that a defender never trained on, as an attacker's: four fifths of its
    validation split to learn from, the rest to choose on, and its test split.

    Raises:
        DataError: too few validation images to part.
    """
    images = len(domain.val)
    if images < 10:
        raise DataError(f"{images} validation images", where=domain.name, fix="raise data.val_fraction")
    order: Tensor = stratified_order(domain.val.labels, generator(0, "attackers share"))
    cut = 4 * images // 5
    splits = {"train": domain.val.take(order[:cut]), "val": domain.val.take(order[cut:]), "test": domain.test}
    return domain.with_splits(
        splits, record={"splits": "the validation images, parted 4 : 1 for an attacker"}
    )
