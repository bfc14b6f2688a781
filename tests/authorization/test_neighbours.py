from __future__ import annotations

import pytest
import torch

from freehold.authorization.neighbours import STYLES, checked, neighbours
from freehold.data import InputSpec

SPEC = InputSpec(size=16, mean=(0.4,) * 3, std=(0.25,) * 3)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(count: int = 24, channels: int = 3) -> torch.Tensor:
    return (torch.rand(count, channels, 16, 16, generator=draws(9)) - 0.4) / 0.25


def test_the_same_draws_give_the_same_looks():
    images = batch()
    assert torch.equal(neighbours(images, SPEC, draws()), neighbours(images, SPEC, draws()))
    assert not torch.equal(neighbours(images, SPEC, draws()), neighbours(images, SPEC, draws(1)))


def test_all_images_change_and_stay_pixels():
    images = batch()
    styled = neighbours(images, SPEC, draws())
    pixels = styled * 0.25 + 0.4
    assert styled.shape == images.shape and styled.isfinite().all()
    assert pixels.min() >= -1e-6 and pixels.max() <= 1 + 1e-6
    assert ((styled - images).abs().mean((1, 2, 3)) > 0.05).all()


@pytest.mark.parametrize(("count", "channels"), [(1, 3), (2, 3), (7, 1), (13, 3)])
def test_any_batch_and_grey_images(count, channels):
    spec = InputSpec(size=16, channels=channels, mean=(0.5,) * channels, std=(0.5,) * channels)
    styled = neighbours(batch(count, channels), spec, draws())
    assert styled.shape == (count, channels, 16, 16)


@pytest.mark.parametrize("style", STYLES, ids=lambda s: s.__name__)
def test_blank_images_stay_finite(style):
    styled = style(torch.zeros(5, 3, 16, 16), draws())
    assert styled.shape == (5, 3, 16, 16) and styled.isfinite().all()


def test_styles_treat_samples_apart():
    one, two = batch(24), batch(24)
    two[5] = 0.0  # another image in its place must not change the others
    changed = (neighbours(one, SPEC, draws()) != neighbours(two, SPEC, draws())).flatten(1).any(1)
    assert changed.nonzero().flatten().tolist() == [5]


def test_rows_that_fail_the_class_check_give_way_to_those_that_pass():
    images = batch(8)
    labels = torch.arange(8)
    passing = torch.tensor([1, 4, 6])

    def ask(styled):
        seen = torch.where(torch.isin(labels, passing), labels, (labels + 1) % 8)
        return torch.nn.functional.one_hot(seen, 8).float()

    kept, named = checked(ask, images, labels)
    assert named.tolist() == [1, 4, 6, 1, 4, 6, 1, 4]
    assert torch.equal(kept, images[named])


def test_a_batch_in_which_nothing_passes_keeps_its_shape():
    images, labels = batch(4), torch.zeros(4, dtype=torch.int64)
    kept, _ = checked(lambda x: torch.tensor([[0.0, 1.0]]).expand(len(x), 2), images, labels)
    assert kept.shape == images.shape
