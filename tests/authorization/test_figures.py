from __future__ import annotations

import torch
from kit import quiet

from freehold.authorization.figures import draw_figures, figure_spec, in_two_tones
from freehold.data import InputSpec
from freehold.training import Trainer

SPEC = InputSpec(size=16, mean=(0.4,) * 3, std=(0.25,) * 3)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_figure_gets_two_tones_far_enough_apart():
    figures = torch.zeros(200, 1, 16, 16)
    figures[:, :, 4:9, 4:9] = 1
    pixels = in_two_tones(figures, SPEC, draws()) * 0.25 + 0.4
    assert pixels.min() >= -1e-5 and pixels.max() <= 1 + 1e-5
    ink, ground = pixels[:, :, 5, 5], pixels[:, :, 0, 0]
    for i in range(200):
        inside = figures[i, 0].bool()
        assert torch.allclose(pixels[i][:, inside], ink[i, :, None].expand(-1, 25), atol=1e-6)
        assert torch.allclose(pixels[i][:, ~inside], ground[i, :, None].expand(-1, 231), atol=1e-6)
    assert (ink - ground).abs().mean(1).median() > 0.45
    colourless = (ink.std(1) < 1e-5) & (ground.std(1) < 1e-5)
    assert 70 < int(colourless.sum()) < 130


def test_the_same_draws_give_the_same_tones():
    figures = torch.rand(4, 1, 16, 16, generator=draws(5))
    assert torch.equal(in_two_tones(figures, SPEC, draws()), in_two_tones(figures, SPEC, draws()))
    assert not torch.equal(in_two_tones(figures, SPEC, draws()), in_two_tones(figures, SPEC, draws(1)))


def test_figures_are_one_channel_balanced_and_seeded(trained):
    recipe = {"num_classes": 10, "steps": 3, "images": 40}
    one, again, other = (
        draw_figures(trained, InputSpec(), Trainer(quiet()), number=n, **recipe)[0] for n in (1, 1, 2)
    )
    assert one.images.shape == (40, 1, 32, 32) and one.labels.bincount().tolist() == [4] * 10
    assert torch.equal(one.images, again.images) and not torch.equal(one.images, other.images)
    assert figure_spec(InputSpec(size=8)).channels == 1
