"""Attacks that cut neurons and channels, and those that fill and re-estimate."""

from __future__ import annotations

import importlib

import pytest
import torch
from kit import Small, quiet
from torch import nn
from torch.nn import functional as F

from freehold.attacks.anp import NeuronPruning, Shares, neurons
from freehold.attacks.fine_prune import FinePrune, activity, put_out
from freehold.attacks.norm_statistics import NormStatistics
from freehold.attacks.regularize import Regularize
from freehold.attacks.structured import PruneChannels
from freehold.attacks.unprune import Unprune, filled
from freehold.data import InputSpec
from freehold.data.batches import fit_images, normalise
from freehold.data.sources import load_domain
from freehold.errors import MissingDependencyError
from freehold.models.channels import channel_units
from freehold.models.zoo import load_model

SPEC = InputSpec(size=32)


@pytest.fixture(scope="module")
def digits():
    return load_domain("digits", limit=120)


def test_channels_that_sleep_go_first_and_stay_silent(digits):
    model = Small().eval()
    (unit,) = [u for u in channel_units(model, SPEC.example()) if u.reader == "head"]
    with torch.no_grad():
        model.features[5].bias[::2] = -100  # behind a ReLU: asleep
    awake = activity(model, unit, digits, SPEC)
    assert awake.shape == (96,) and not awake[::2].any() and (awake[1::2] > 0).any()
    attacked = FinePrune(share=0.5, epochs=0.3).run(model, digits, SPEC, run=quiet())
    weight = attacked.last.features[4].weight
    assert not weight[::2].any() and weight[1::2].flatten(1).any(1).all()
    put_out(model, unit, torch.tensor([1, 3]))
    now = activity(model, unit, digits, SPEC)
    assert not now[[1, 3]].any() and torch.equal(now[5:], awake[5:])


def test_networks_without_such_a_layer_are_refused(digits):
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    nn.init.ones_(linear[1].weight)  # no zero anywhere, which random weights have now and then
    for attack in (FinePrune(), NeuronPruning(), NormStatistics(), Unprune()):
        assert [p.where for p in attack.problems(linear, digits, SPEC)] == ["model"], attack.name


def test_neurons_are_norms_or_layers_without_one_and_never_the_classifier():
    assert neurons(Small(), SPEC.example()) == ("features.1", "features.5")
    assert neurons(load_model("vgg11", 10), SPEC.example())[-3:] == ("features.18", "head.0", "head.3")


def test_neurons_are_moved_against_the_task_and_back():
    model = Small().eval().requires_grad_(False)
    kept = Shares(model, neurons(model, SPEC.example()))
    images, labels = torch.randn(32, 3, 32, 32), torch.arange(32) % 10
    assert torch.allclose(kept(images), model(images), atol=1e-6)
    kept.shake(0.01, torch.Generator().manual_seed(0))
    anywhere = F.cross_entropy(kept(images), labels)
    kept.climb(anywhere, 0.01)
    assert max(float(move.abs().max()) for move in kept.moves) <= 0.01
    assert F.cross_entropy(kept(images), labels) > max(anywhere, F.cross_entropy(model(images), labels))
    kept.still()
    with torch.no_grad():
        kept.shares[1][:10] = 0
        model.features[5].weight[:10] = 0
    assert torch.allclose(kept(images), model(images), atol=1e-6)


def test_neurons_are_cut_while_accuracy_bears_it(digits, monkeypatch):
    def shares(model: nn.Module) -> Shares:
        kept = Shares(model, neurons(model, SPEC.example()))
        with torch.no_grad():
            kept.shares[0][3], kept.shares[1][:2] = 0.2, torch.tensor([0.5, 0.7])
        return kept

    for bearable, cut in ((4, 3), (1, 1), (0, 0)):  # neurons that can be spared
        model = Small()

        def accuracy(m: nn.Module, *_: object, spare: int = bearable) -> float:
            gone = sum(int((n.weight == 0).sum()) for n in (m.features[1], m.features[5]))
            return 0.9 if gone <= spare else 0.5

        monkeypatch.setattr("freehold.attacks.anp.share_correct", accuracy)
        NeuronPruning()._cut(model, shares(model), digits, SPEC)
        zeros = [n.weight == 0 for n in (model.features[1], model.features[5])]
        assert sum(int(z.sum()) for z in zeros) == cut
        assert bool(zeros[0][3]) == (cut >= 1)


def test_the_press_comes_first_and_what_is_kept_was_trained_back(digits):
    attack = Regularize(pressed=4, epochs=3, decay=5, batch_size=32)
    attacked = attack.run(Small(), digits, SPEC, run=quiet())
    history = attacked.record["history"]
    assert history["best_step"] > 4 * len(digits.train) / 32
    assert attacked.last.features[4].weight.norm() < 0.5 * Small().features[4].weight.norm()


@pytest.mark.parametrize("uri", ["convnet", "resnet20"])
def test_channels_leave_the_network(digits, uri):
    model = load_model(uri, 10)
    thin = PruneChannels(share=0.5, epochs=0).run(model, digits, SPEC, run=quiet()).model
    sizes = [sum(p.numel() for p in m.parameters()) for m in (model, thin)]
    assert sizes[1] < 0.5 * sizes[0] and thin(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_without_the_extra_there_is_a_hint(digits, monkeypatch):
    def missing(name: str):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingDependencyError, match=r"freehold\[prune\]"):
        PruneChannels().run(Small(), digits, SPEC, run=quiet())


def test_fillings_know_the_live_weights_only():
    draws = torch.Generator().manual_seed(0)
    full = torch.randn(24, 2, generator=draws) @ torch.randn(2, 30, generator=draws)
    holes = torch.rand(full.shape, generator=draws) < 0.2
    weight = torch.where(holes, 0.0, full)
    mean, low = (filled(weight, kind, draws) for kind in ("mean", "low-rank"))
    assert torch.allclose(mean[3], weight[3].sum() / (~holes[3]).sum())
    assert (low - full)[holes].norm() < 0.8 * (mean - full)[holes].norm()
    noise = filled(weight, "noise", draws)
    assert float(noise.std()) == pytest.approx(float(full[~holes].square().mean().sqrt()), rel=0.1)


def test_a_guess_has_to_fit(digits, tmp_path):
    from safetensors.torch import save_file

    model, path = Small(), tmp_path / "guess.safetensors"
    with torch.no_grad():
        model.features[4].weight[0] = 0
    assert [p.where for p in Unprune(guess=str(path)).problems(model, digits, SPEC)] == [str(path)]
    save_file({"features.0.weight": torch.zeros(8, 3, 3, 3)}, path)
    found = Unprune(guess=str(path)).problems(model, digits, SPEC)
    assert [p.where for p in found] == ["guess: features.4.weight", "guess: head.weight"]


def test_statistics_are_those_of_the_images(digits):
    model = Small()
    attacked = NormStatistics(share=1.0, batch_size=60).run(model, digits, SPEC, run=quiet()).model
    with torch.no_grad():
        seen = model.features[0](normalise(fit_images(digits.train.images, SPEC), SPEC))
    norm = attacked.features[1]
    assert torch.allclose(norm.running_mean, seen.mean((0, 2, 3)), atol=1e-4)
    assert torch.allclose(norm.running_var, seen.var((0, 2, 3)), rtol=0.02)
    assert norm.momentum == model.features[1].momentum and not norm.training
