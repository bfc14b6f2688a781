from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from freehold.errors import ModelError
from freehold.models.anatomy import find_head, maskable_weights
from freehold.models.channels import (
    channel_masks,
    channel_units,
    equal_width,
    normed_layers,
    saliency,
    shrink,
    widen,
)
from freehold.models.zoo import load_model

EXAMPLE = torch.zeros(2, 3, 32, 32)


def network(uri: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return load_model(uri, 10, **({"img_size": 32} if uri.endswith("vit") else {})).eval()


def a_third(model: nn.Module) -> tuple[tuple, dict[str, torch.Tensor]]:
    units = channel_units(model, EXAMPLE)
    live = {u.layer: saliency(model, u).argsort().argsort() >= 2 * u.channels // 3 for u in units}
    return units, live


def test_in_a_plain_network_every_convolution_is_read_by_the_next_layer():
    units = channel_units(network("convnet"), EXAMPLE)
    numbers = [(0, 4), (4, 7), (7, 11), (11, 14), (14, 18)]
    expected = [(f"features.{i}", f"features.{i + 1}", f"features.{j}") for i, j in numbers]
    assert [(u.layer, u.norm, u.reader) for u in units] == [*expected, ("features.18", "features.19", "head")]
    assert [u.channels for u in units] == [32, 64, 64, 128, 128, 256]


def test_of_a_residual_network_only_channels_inside_blocks_can_go():
    units = channel_units(network("resnet20"), EXAMPLE)
    assert {(u.layer.split(".")[-1], u.reader.split(".")[-1]) for u in units} == {("conv1", "conv2")}
    assert len(units) == 9 and "conv1" not in [u.layer for u in units]


def test_of_a_transformer_the_hidden_layers_of_its_mlps():
    units = channel_units(network("timm:test_vit"), EXAMPLE)
    assert [(u.layer, u.reader) for u in units] == [
        (f"blocks.{i}.mlp.fc1", f"blocks.{i}.mlp.fc2") for i in range(6)
    ]


def test_a_norm_that_starts_at_scale_zero_hides_no_path():
    model = network("timm:resnet10t")  # its blocks end in such norms
    assert {u.reader for u in channel_units(model, EXAMPLE)}.isdisjoint({find_head(model, EXAMPLE)})


class Shuffled(nn.Module):
    """A reader that sees the channels in another order, and one that two layers read."""

    def __init__(self, *, shuffle: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.other, self.head, self.shuffle = nn.Conv2d(8, 8, 3), nn.Linear(8, 10), shuffle

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.first(images).relu()
        if self.shuffle:
            made = self.second(hidden.flip(1)).relu()
        else:
            made = self.second(hidden).relu() + self.other(hidden).relu()
        return self.head(made.mean((2, 3)))


@pytest.mark.parametrize(("shuffle", "expected"), [(True, {"second"}), (False, set())])
def test_channels_that_are_shuffled_or_read_twice_or_added_are_left_alone(shuffle, expected):
    assert {u.layer for u in channel_units(Shuffled(shuffle=shuffle), EXAMPLE)} == expected


@pytest.mark.parametrize("uri", ["convnet", "vgg11", "resnet20", "timm:test_vit"])
def test_cut_out_and_put_back_computes_the_same_with_zeros(uri):
    model = network(uri)
    units, live = a_third(model)
    masks = channel_masks(model, units, live)
    narrow = copy.deepcopy(model)
    shrink(narrow, units, live)
    wide = copy.deepcopy(narrow)
    widen(wide, units, live)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(narrow(images), wide(images), atol=1e-5)
    assert sum(p.numel() for p in narrow.parameters()) < 0.7 * sum(p.numel() for p in model.parameters())
    assert {k: v.shape for k, v in wide.state_dict().items()} == {
        k: v.shape for k, v in model.state_dict().items()
    }
    for name, mask in masks.items():
        weight = wide.get_parameter(name)
        assert not weight[~mask].any()
        assert torch.equal(weight[mask], model.get_parameter(name)[mask])


def test_dead_channels_get_no_gradient_and_stay_dead_while_everything_trains():
    model = network("convnet")
    units, live = a_third(model)
    shrink(model, units, live)
    widen(model, units, live)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.Adam(model.parameters(), 1e-2, weight_decay=1e-2)
    draw = torch.Generator().manual_seed(2)
    model.train()
    for _ in range(3):
        images, labels = torch.randn(8, 3, 32, 32, generator=draw), torch.arange(8)
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    for name, mask in channel_masks(model, units, live).items():
        assert not model.get_parameter(name)[~mask].any()
        assert not torch.equal(model.get_parameter(name), before[name])
    for unit in units:
        norm = model.get_submodule(unit.norm)
        assert not norm.weight[~live[unit.layer]].any() and not norm.bias[~live[unit.layer]].any()


def test_the_equal_width_is_the_largest_that_is_sparse_enough():
    model = network("convnet")
    units = channel_units(model, EXAMPLE)
    names = tuple(maskable_weights(model, ("head",)))

    def zeros(width: int) -> float:
        live = {u.layer: torch.arange(u.channels) < width for u in units}
        masks = channel_masks(model, units, live)
        total = sum(model.get_parameter(n).numel() for n in names)
        return sum(int((~masks[n]).sum()) for n in names) / total

    width = equal_width(model, units, names, 0.98, 4)
    assert zeros(width) >= 0.98 > zeros(width + 1)


def test_more_than_whole_channels_can_give_is_refused_with_what_they_can():
    model = network("timm:test_vit")
    names = tuple(maskable_weights(model, ("head",)))
    with pytest.raises(ModelError, match=r"at most 0\.4\d"):
        equal_width(model, channel_units(model, EXAMPLE), names, 0.9, 4)
    with pytest.raises(ModelError, match="at most 0 of"):
        equal_width(model, (), names, 0.9, 4)


def test_the_norm_of_a_layer_is_the_one_that_takes_its_output():
    assert normed_layers(network("resnet20"), EXAMPLE)["layer1.0.conv2"] == "layer1.0.bn2"
    assert normed_layers(network("vgg11"), EXAMPLE) == {}
