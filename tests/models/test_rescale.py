from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from freehold.models.rescale import lift_filters, stiffen, unstiffen
from freehold.models.zoo import load_model

EXAMPLE = torch.zeros(2, 3, 32, 32)


@pytest.fixture(params=["convnet", "resnet20"])
def model(request) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = load_model(request.param, 10)
        network.train()(torch.randn(64, 3, 32, 32))
    return network.eval()


def test_the_lock_changes_no_answer_and_its_undoing_neither(model):
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    before = model(images)
    locked = copy.deepcopy(model)
    done = stiffen(locked, EXAMPLE)
    assert {"features.4", "features.1"} <= {*done} or {"layer1.0.conv1", "layer1.0.bn1"} <= {*done}
    assert torch.allclose(locked(images), before, atol=1e-2 * float(before.std()))
    unstiffen(locked, EXAMPLE)
    assert torch.allclose(locked(images), before, atol=1e-2 * float(before.std()))


def turned(model: nn.Module) -> float:
    """How far one step of a fine-tuner turns the convolutions."""
    model = copy.deepcopy(model).train()
    name, weight = next((n, p) for n, p in model.named_parameters() if p.dim() == 4)
    before = weight.detach().clone()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    nn.functional.cross_entropy(model(images), torch.arange(8)).backward()
    optimizer.step()
    after = model.get_parameter(name).detach()
    return float((after - before).norm() / before.norm())


def test_a_locked_layer_hardly_turns_and_an_unlocked_one_turns_again(model):
    free = turned(model)
    stiffen(model, EXAMPLE)
    assert turned(model) < free / 1000
    unstiffen(model, EXAMPLE)
    assert turned(model) > free / 3


def test_live_weights_come_to_the_scale_of_new_ones_and_zeros_stay(model):
    weight = next(p for p in model.parameters() if p.dim() == 4)
    with torch.no_grad():
        weight[4:] = 0
    stiffen(model, EXAMPLE)
    unstiffen(model, EXAMPLE)
    live = weight[weight != 0]
    inputs = len(live) / len(weight)
    assert not weight[4:].any()
    assert float(live.square().mean().sqrt()) == pytest.approx((2 / inputs) ** 0.5, rel=1e-4)


def test_a_network_without_batch_norm_has_nothing_to_lock():
    assert stiffen(load_model("vgg11", 10), EXAMPLE) == ()


def test_small_filters_are_lifted_to_half_the_median_and_no_answer_changes(model):
    layer, norm = ("features.4", "features.5") if hasattr(model, "features") else ("conv1", "bn1")
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    first, after = model.get_submodule(layer), model.get_submodule(norm)
    with torch.no_grad():
        first.weight[:3] *= 1e-3
        after.running_mean[:3] *= 1e-3
        after.running_var[:3] *= 1e-6
    before, median = model(images), first.weight.flatten(1).norm(dim=1).median()
    lift_filters(model, layer, norm)
    assert torch.allclose(model(images), before, atol=1e-4 * float(before.std()))
    assert first.weight.flatten(1).norm(dim=1).min() > 0.499 * median


def test_norms_without_statistics_leave_filters_as_they_are():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8))
    before = copy.deepcopy(model.state_dict())
    lift_filters(model, "0", "1")
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
