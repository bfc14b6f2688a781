from __future__ import annotations

import pytest
import torch
from kit import Small, quiet

from freehold.attacks.attacker import Attacker, released
from freehold.attacks.learning_curve import BUDGETS, Budget, Grid, attackers_share, learning_curve
from freehold.data import Domain, InputSpec, Split
from freehold.data.sources import load_domain
from freehold.errors import ConfigError, DataError

SPEC = InputSpec(size=32)
GRID = Grid(sizes=(10, 40), seeds=2)


@pytest.fixture(scope="module")
def digits() -> Domain:
    return load_domain("digits", limit=300)


def measure(digits, *, budget=None, grid=GRID, run=None):
    start = released(Small(), Attacker(), SPEC, 10)
    return learning_curve(
        "regrow", start, digits, SPEC, budget or Budget(name="short", patience=0.1), grid, run or quiet()
    )


def test_more_images_teach_more_and_the_same_seed_repeats(digits):
    budget = Budget(name="long", lrs=(1e-2,))
    curve, again = (measure(digits, budget=budget) for _ in range(2))
    assert curve == again
    assert (curve.sizes, len(curve.accuracies), curve.budget) == ((10, 40), 2, "long")
    assert curve.mean[1] > curve.mean[0] > 0.12
    assert measure(digits, budget=budget, run=quiet(seed=1)) != curve


def test_each_size_is_trained_on_a_larger_set_that_holds_the_smaller(digits, monkeypatch):
    from freehold.training import Trainer

    seen: dict[str, set[int]] = {}
    fit = Trainer.fit

    def spy(self, model, objective, streams, loop, *, name, **rest):
        seen[name] = {hash(image.numpy().tobytes()) for image in streams["train"].split.images}
        return fit(self, model, objective, streams, loop, name=name, **rest)

    batches = Trainer.batches

    def keep(self, split, *args, **rest):
        stream = batches(self, split, *args, **rest)
        stream.split = split
        return stream

    monkeypatch.setattr(Trainer, "fit", spy)
    monkeypatch.setattr(Trainer, "batches", keep)
    measure(digits)
    by_seed = [
        [images for name, images in seen.items() if name.startswith(f"curve-{seed}-")] for seed in (0, 1)
    ]
    for small, large in by_seed:
        assert small < large
    assert by_seed[0][1] != by_seed[1][1]


def test_the_learning_rate_is_chosen_on_validation_images(digits):
    hopeless, good = 1e-9, 1e-2
    grid = Grid(sizes=(10, 40), seeds=1)
    found = measure(digits, grid=grid, budget=Budget(name="swept", lrs=(hopeless, good)))
    assert found.mean == measure(digits, grid=grid, budget=Budget(name="swept", lrs=(good,))).mean


def test_a_grid_beyond_the_data_is_refused_before_training(digits, monkeypatch):
    monkeypatch.setattr("freehold.training.Trainer.fit", None)
    with pytest.raises(DataError, match=r"500 images asked for, 300 to be had"):
        measure(digits, grid=Grid(sizes=(10, 500)))


@pytest.mark.parametrize("sizes", [(), (10,), (50, 10), (10, 10), (1, 10)])
def test_grids_that_make_no_curve_are_refused(sizes):
    with pytest.raises(ConfigError, match="sizes"):
        Grid(sizes=sizes)


def test_budgets_count_steps_as_they_say():
    assert [BUDGETS["equal"].steps(n) for n in (10, 50, 51, 500, 501, 2000)] == [60, 60, 100, 100, 150, 150]
    assert BUDGETS["patient"].steps(10) == 240
    assert [BUDGETS["published"].steps(n) for n in (10, 128, 129, 1000)] == [30, 30, 60, 240]


def test_an_attacker_gets_images_that_no_defender_trained_on(digits):
    share = attackers_share(digits)
    images = lambda split: {hash(i.numpy().tobytes()) for i in split.images}  # noqa: E731
    assert images(share.train) | images(share.val) == images(digits.val)
    assert not images(share.train) & images(share.val)
    assert share.test is digits.test and len(share.train) == 4 * len(digits.val) // 5
    few = Split(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]))
    with pytest.raises(DataError, match="val_fraction"):
        attackers_share(Domain("few", ("a", "b"), few, few, few))
