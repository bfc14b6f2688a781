from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from freehold.models.norm_pairs import NormPair, norm_pairs
from freehold.models.two_branches import TwoBranches
from freehold.models.zoo import load_model

IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Constant(nn.Module):
    """Scales and shifts that are learned as they are."""

    def __init__(self, pairs) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(1)
        self.values = nn.ParameterList(torch.randn(2, p.channels, generator=rng) for p in pairs)

    def forward(self, model):
        return [(scale, shift) for scale, shift in self.values]


class Normed(nn.Module):
    """A convolution, the norm asked for, and functions that work in place around a shortcut."""

    def __init__(self, norm: str, *, in_place: bool = False) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 8, 3, padding=1), self._norm(norm)
        self.conv2, self.norm2 = nn.Conv2d(8, 8, 3, padding=1), self._norm(norm)
        self.head, self.relu, self.in_place = nn.Linear(8, 5), nn.ReLU(inplace=in_place), in_place
        self.norm = norm

    def _norm(self, norm: str) -> nn.Module:
        return {
            "batch": nn.BatchNorm2d(8),
            "group": nn.GroupNorm(2, 8),
            "instance": nn.InstanceNorm2d(8, affine=True),
            "layer": nn.LayerNorm(8),
        }[norm]

    def _normed(self, norm, x):
        return norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) if self.norm == "layer" else norm(x)

    def forward(self, images):
        x = self._normed(self.norm1, self.conv1(images))
        if self.in_place:
            x += 1
        x = self.relu(x)
        y = self._normed(self.norm2, self.conv2(x))
        return self.head(self.relu(y + x).mean((2, 3)))


def built(model, last: int = 0, **options) -> TwoBranches:
    pairs = norm_pairs(model, IMAGES[:2])[-last:]
    return TwoBranches(model, pairs, Constant(pairs), IMAGES[:2], **options)


def separately(net: TwoBranches, images):
    """Both branches by two passes of plain copies."""
    return torch.cat([net.model(images), net.private()(images)])


@pytest.mark.parametrize("norm", ["batch", "group", "instance", "layer"])
def test_every_norm_behind_a_layer_is_found(norm):
    pairs = norm_pairs(Normed(norm), IMAGES)
    assert [(p.layer, p.norm, p.channels, p.fan_in) for p in pairs] == [
        ("conv1", "norm1", 8, 27),
        ("conv2", "norm2", 8, 72),
    ]


def test_norms_that_follow_nothing_or_have_no_scale_are_not():
    lone = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3), nn.ReLU(), nn.BatchNorm2d(8))
    bare = nn.Sequential(nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8))
    for trunk in (lone, bare):
        assert norm_pairs(nn.Sequential(trunk, nn.Flatten(), nn.LazyLinear(4)), IMAGES) == ()
    twice = nn.Conv2d(3, 3, 3, padding=1)
    model = nn.Sequential(twice, nn.BatchNorm2d(3), twice, nn.BatchNorm2d(3), nn.Flatten(), nn.LazyLinear(4))
    assert norm_pairs(model, IMAGES) == ()


def test_pairs_come_in_order_of_call_for_networks_of_every_make():
    assert [p.channels for p in norm_pairs(load_model("convnet", 10), IMAGES)] == [32, 64, 64, 128, 128, 256]
    resnet = norm_pairs(load_model("resnet20", 10), IMAGES)
    assert len(resnet) == 19 and resnet[0] == NormPair("conv1", "bn1", 16, 27)


@pytest.mark.parametrize("norm", ["batch", "group", "instance", "layer"])
@pytest.mark.parametrize("last", [1, 2])
@pytest.mark.parametrize("in_place", [False, True])
def test_both_branches_at_once_are_both_branches_apart(norm, last, in_place):
    torch.manual_seed(0)
    net = built(Normed(norm, in_place=in_place), last).eval()
    assert torch.allclose(net(IMAGES), separately(net, IMAGES), atol=1e-5)
    net.branches = "private"
    assert torch.allclose(net(IMAGES), net.private()(IMAGES), atol=1e-5)
    assert net._shared
    net.train()
    net.branches = "both"
    net(IMAGES).square().sum().backward()  # in-place functions would have spoiled what both share
    assert all(p.grad is not None for p in net.affine.parameters())


@pytest.mark.parametrize("uri", ["convnet", "resnet20", "torchvision:resnet18"])
@pytest.mark.parametrize("last", [0, 3])
def test_sharing_changes_no_number(uri, last):
    if uri.startswith("torchvision"):
        pytest.importorskip("torchvision")
    net = built(load_model(uri, 10), last).eval()
    assert len(net._shared) >= 1
    assert torch.allclose(net(IMAGES), separately(net, IMAGES), atol=1e-4, rtol=1e-3)


def test_gradients_of_one_pass_are_those_of_two():
    torch.manual_seed(0)
    net = built(load_model("resnet20", 10), 3).train()
    weights = dict(net.model.named_parameters())
    together = torch.autograd.grad(net(IMAGES).logsumexp(1).sum(), weights.values(), allow_unused=True)
    net._shared = []
    apart = torch.autograd.grad(net(IMAGES).logsumexp(1).sum(), weights.values(), allow_unused=True)
    for name, one, other in zip(weights, together, apart, strict=True):
        assert one is other or torch.allclose(one, other, atol=1e-4, rtol=1e-3), name


def test_private_batch_norms_keep_statistics_of_their_own_from_the_first_pair_on():
    model = load_model("convnet", 10)
    net = built(model, 2).train()
    earlier = model.features[1].running_mean.clone()
    reference = load_model("convnet", 10).train()
    net(IMAGES)
    reference(IMAGES)
    for (name, mine), theirs in zip(model.named_buffers(), reference.buffers(), strict=True):
        assert torch.allclose(mine.float(), theirs.float(), atol=1e-6), name  # the prefix counted once
    assert not torch.equal(model.features[1].running_mean, earlier)
    kept = net.private_statistics()
    assert {name.rpartition(".")[0] for name in kept} == {"private.features.15", "private.features.19"}
    assert not torch.allclose(kept["private.features.19.running_mean"], model.features[19].running_mean)
    assert built(load_model("convnet", 10), 2, own_statistics=False).private_statistics() == {}


def test_only_the_layers_behind_the_first_pair_run_twice(monkeypatch):
    net = built(load_model("convnet", 10), 3)
    calls, usual = [], nn.Conv2d._conv_forward
    monkeypatch.setattr(
        nn.Conv2d, "_conv_forward", lambda self, *args: calls.append(self.out_channels) or usual(self, *args)
    )
    net(IMAGES)
    assert calls == [32, 64, 64, 128, 128, 256, 128, 256]


def test_nothing_is_left_behind_by_a_crash():
    model = load_model("convnet", 10)
    net = built(model)
    for images in (IMAGES[:, :1], torch.zeros(4, 3, 2, 2)):
        with pytest.raises(RuntimeError):
            net(images)
    assert not any("forward" in module.__dict__ for module in model.modules())
    assert net(IMAGES).shape == (8, 10)


def test_the_private_copy_is_a_network_of_its_own():
    model = load_model("convnet", 10)
    net = built(model)
    private = net.private()
    assert list(private.state_dict()) == list(model.state_dict())
    first = net.affine.values[0]
    assert torch.equal(private.features[1].weight, first[0]) and not torch.equal(
        private.features[1].weight, model.features[1].weight
    )
    assert F.mse_loss(private.eval()(IMAGES), model.eval()(IMAGES)) > 0
