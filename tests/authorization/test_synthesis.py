from __future__ import annotations

import pytest
import torch
from kit import Small, quiet
from torch import nn
from torch.nn import functional as F

from freehold.authorization import bank as banks
from freehold.authorization.bank import GENERATORS, bank, cache_folder
from freehold.authorization.matching import (
    StatisticsTap,
    moments,
    statistics_layers,
    untrained_statistics,
)
from freehold.authorization.synthesis import LATENT, Codes, Generator, input_gap, synthesise
from freehold.data import InputSpec
from freehold.data.batches import fit_images, normalise
from freehold.data.sources import load_domain
from freehold.metrics.accuracy import share_correct
from freehold.models.checkpoint import state_hash
from freehold.models.zoo import load_model
from freehold.training import Trainer
from freehold.training.classifier import Supervised, train_classifier

TINY = {"num_classes": 10, "steps": 3, "images": 30}
SPEC = InputSpec(size=16)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FREEHOLD_CACHE", str(tmp_path))
    return tmp_path / "banks"


def test_moments_and_their_gradient():
    x = torch.randn(6, 3, 4, 5, generator=torch.Generator().manual_seed(0)) * 2 + 1
    ours, theirs = (x.clone().requires_grad_() for _ in range(2))
    mean, deviation = moments(ours, 1e-3)
    expected = theirs.mean((0, 2, 3)), (theirs.var((0, 2, 3), unbiased=False) + 1e-3).sqrt()
    assert torch.allclose(mean, expected[0], atol=1e-6) and torch.allclose(deviation, expected[1], atol=1e-5)
    weights = torch.randn(2, 3, generator=torch.Generator().manual_seed(1))
    (mean @ weights[0] + deviation @ weights[1]).backward()
    (expected[0] @ weights[0] + expected[1] @ weights[1]).backward()
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-6)


def test_the_statistics_gap_against_its_formula_layer_by_layer(trained):
    images = torch.randn(12, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    layers = [m for m in trained.modules() if isinstance(m, nn.BatchNorm2d)]
    inputs: list[torch.Tensor] = []
    handles = [m.register_forward_pre_hook(lambda _, args: inputs.append(args[0])) for m in layers]
    with StatisticsTap(trained) as tap:
        trained.eval()(images)
        found = tap.gaps().mean().detach()
    for handle in handles:
        handle.remove()
    expected = 0.0
    for layer, x in zip(layers, inputs, strict=True):
        stored = (layer.running_var + layer.eps).sqrt()
        means = ((x.mean((0, 2, 3)) - layer.running_mean) / stored) ** 2
        spread = ((x.var((0, 2, 3), unbiased=False) + layer.eps).sqrt() / stored - 1) ** 2
        expected += (means.mean() + spread.mean()).item() / len(layers)
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_the_gap_vanishes_on_the_training_data_and_not_on_noise(trained, domains):
    def gap(images):
        with torch.no_grad(), StatisticsTap(trained) as tap:
            trained.eval()(images)
            return float(tap.gaps().mean())

    real = normalise(fit_images(domains.authorized.train.images[:512], InputSpec()), InputSpec())
    assert gap(real) < 0.1 * gap(torch.randn_like(real))


def test_hooks_last_as_long_as_the_block(trained):
    with pytest.raises(KeyError), StatisticsTap(trained):
        raise KeyError
    assert not any(m._forward_pre_hooks for m in trained.modules())


def test_codes_are_balanced_and_a_function_of_seed_and_step():
    codes = Codes(7, 10, seed=3, device="cpu")
    labels = torch.cat([codes.batch(step).labels for step in range(7)])
    assert torch.equal(labels.bincount(), torch.full((7,), 10))
    one, again = codes.batch(4), Codes(7, 10, 3, "cpu").batch(4)
    assert torch.equal(one.images, again.images)
    assert not torch.equal(one.images[:, :LATENT], codes.batch(5).images[:, :LATENT])
    assert torch.equal(one.images[:, LATENT:].argmax(1), one.labels)


@pytest.mark.parametrize(("size", "channels"), [((8, 8), 1), ((9, 14), 3), ((32, 32), 3), ((5, 4), 1)])
def test_any_size_and_channels_within_the_pixel_range(size, channels):
    mean, std = (0.3,) * channels, (0.2,) * channels
    spec = InputSpec(size=size, channels=channels, mean=mean, std=std)
    painter = Generator(4, spec)
    images = painter(Codes(4, 6, 0, "cpu").batch(0).images)
    assert images.shape == (6, channels, *size)
    pixels = images * 0.2 + 0.3
    assert pixels.min() >= -1e-6 and pixels.max() <= 1 + 1e-6


def test_synthesis_makes_what_the_network_takes_for_its_classes():
    spec = InputSpec(size=16)
    model = Small()
    settings = Supervised(steps=60, batch_size=32, lr=1e-2, shift=0)
    train_classifier(model, load_domain("digits", limit=600), spec, settings, Trainer(quiet()))
    before = state_hash(model)
    recipe = {"num_classes": 10, "steps": 110, "images": 100, "batch_size": 20}
    split, history = synthesise(model, spec, Trainer(quiet()), number=1, **recipe)
    assert share_correct(model, split, spec) > 0.3
    assert history.terms["statistics"][-1] < 0.5 * history.terms["statistics"][0]
    assert state_hash(model) == before and split.labels.bincount().tolist() == [10] * 10


def test_same_number_same_images_and_other_number_other_images(trained):
    made = [synthesise(trained, SPEC, Trainer(quiet()), number=n, **TINY)[0].images for n in (1, 1, 2)]
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])


def test_synthesis_resumes_exactly(trained, tmp_path):
    class Brittle(nn.Module):
        def __init__(self, left):
            super().__init__()
            self.model, self.left = trained, left

        def forward(self, images):
            self.left -= 1
            if self.left == 0:
                raise RuntimeError("crash inside")
            return self.model(images)

    run = quiet(directory=tmp_path, checkpoint_seconds=0)
    with pytest.raises(RuntimeError, match="crash inside"):
        synthesise(Brittle(3), SPEC, Trainer(run), number=4, **TINY)
    assert (tmp_path / "synthesis-4.state").exists()
    resumed, history = synthesise(Brittle(99), SPEC, Trainer(run), number=4, **TINY)
    whole, _ = synthesise(Brittle(99), SPEC, Trainer(quiet()), number=4, **TINY)
    assert torch.equal(resumed.images, whole.images) and history.steps[-1] == 3


def test_a_bank_is_made_once(trained, cache, monkeypatch):
    first, curves = bank("source", trained, SPEC, Trainer(quiet()), **TINY)
    monkeypatch.setattr(banks, "synthesise", None)  # a second call would fail
    again, told = bank("source", trained, SPEC, Trainer(quiet()), **TINY)
    assert torch.equal(first.images, again.images) and torch.equal(first.labels, again.labels)
    assert told == curves and len(list(cache.iterdir())) == GENERATORS


def test_a_bank_is_interleaved_from_several_generators(trained, cache):
    split, _ = bank("source", trained, SPEC, Trainer(quiet(seed=2)), **TINY)
    for place in range(GENERATORS):
        number = 2 * GENERATORS + place
        alone, _ = synthesise(trained, SPEC, Trainer(quiet()), number=number, **TINY)
        assert torch.equal(split.images[place::GENERATORS], alone.images)
        assert torch.equal(split.labels[place::GENERATORS], alone.labels)


def test_another_model_seed_or_precision_gets_a_bank_of_its_own(trained, cache):
    bank("source", trained, SPEC, Trainer(quiet()), **TINY)
    bank("source", trained, SPEC, Trainer(quiet(seed=1)), **TINY)
    bank("source", trained, SPEC, Trainer(quiet(precision="bf16")), **TINY)
    other = Small()
    bank("source", other, SPEC, Trainer(quiet()), **TINY)
    assert len(list(cache.iterdir())) == 4 * GENERATORS


def test_a_damaged_bank_is_made_again(trained, cache):
    first, _ = bank("source", trained, SPEC, Trainer(quiet()), **TINY)
    path = min(cache.iterdir())
    path.write_bytes(path.read_bytes()[:100])
    again, _ = bank("source", trained, SPEC, Trainer(quiet()), **TINY)
    assert torch.equal(first.images, again.images) and path.stat().st_size > 100


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(trained, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FREEHOLD_CACHE", str(tmp_path / "file"))
    split, _ = bank("source", trained, SPEC, Trainer(quiet()), **TINY)
    assert len(split) == 30 * GENERATORS and "not kept" in caplog.text


def test_the_cache_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("FREEHOLD_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "freehold" / "banks"


def test_statistics_are_untrained_until_a_batch_was_seen(trained):
    assert len(untrained_statistics(Small())) == 2 and not untrained_statistics(trained)
    model = Small()
    model.load_state_dict(trained.state_dict())
    for layer in statistics_layers(model).values():
        layer.num_batches_tracked.zero_()  # as in weights from before torch counted
    assert not untrained_statistics(model)


def test_a_network_without_batch_norm_is_matched_at_its_input():
    model, spec = load_model("timm:test_vit", 10, img_size=32), InputSpec(mean=(0.2,) * 3, std=(0.1,) * 3)
    assert not statistics_layers(model)
    split, history = synthesise(model, spec, Trainer(quiet()), number=0, num_classes=10, steps=2, images=12)
    assert split.images.shape == (12, 3, 32, 32) and history.terms["statistics"]


def test_the_gap_at_the_input_against_its_formula():
    images = torch.randn(5, 3, 6, 6, generator=torch.Generator().manual_seed(4))
    mean, deviation = images.mean((0, 2, 3)), images.var((0, 2, 3), unbiased=False).sqrt()
    rough = (images[:, :, 1:] - images[:, :, :-1]).abs().mean()
    rough = rough + F.l1_loss(images[..., 1:], images[..., :-1])
    expected = mean.square().mean() + (deviation - 1).square().mean() + 0.5 * rough
    assert float(input_gap(images)) == pytest.approx(float(expected), rel=1e-4)
