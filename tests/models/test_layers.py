from __future__ import annotations

import copy
import math

import pytest
import timm
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrize

from freehold.errors import ArtifactError, ModelError, UsageError
from freehold.models import (
    ConvNet,
    attach_masks,
    fuse_masks,
    maskable_weights,
    masked,
    pack_masks,
    read_masks,
    remove_masks,
    unpack_masks,
)


def scramble(scores: dict[str, nn.Parameter], seed: int = 0) -> None:
    """Scores on both sides of the threshold."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in scores.values():
            value.copy_(torch.rand(value.shape, generator=generator) * 0.01)


def plain(model: nn.Module) -> bool:
    return not any(
        parametrize.is_parametrized(m) or "Parametrized" in type(m).__name__ for m in model.modules()
    )


def images(count: int = 4) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_the_mask_starts_as_identity() -> None:
    model = ConvNet(10).eval()
    before = model(images())
    attach_masks(model, list(maskable_weights(model)))
    assert torch.equal(model(images()), before)
    assert all(mask.all() for mask in read_masks(model).values())


def test_gradient_is_straight_through() -> None:
    """dL/ds = dL/dw̃ · w, for cut weights as for kept ones, with dL/dw̃ from a plain layer holding w̃."""
    layer, x = nn.Linear(6, 3).double(), torch.rand(5, 6).double()
    weight = layer.weight.detach().clone()
    scores = attach_masks(layer, ["weight"])["weight"]
    with torch.no_grad():
        scores[0] = 0.004
    layer(x).square().sum().backward()
    effective = (weight * (scores.detach() > 0.005)).requires_grad_()
    F.linear(x, effective, layer.bias).square().sum().backward()
    assert not effective[0].any()
    assert scores.grad is not None
    assert torch.allclose(scores.grad, (effective.grad * weight).float())
    assert scores.grad[0].any()


def test_only_scores_learn_and_weights_stay_byte_identical() -> None:
    model = ConvNet(4)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    names = list(maskable_weights(model))
    scores = attach_masks(model, names)
    optimizer = torch.optim.Adam(scores.values(), lr=4e-3)
    model.eval()
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(images()), torch.tensor([0, 1, 2, 3])).backward()
        optimizer.step()
    kept = sum(int(mask.sum()) for mask in read_masks(model).values())
    assert 0 < kept < sum(mask.numel() for mask in read_masks(model).values())
    remove_masks(model)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    "make", [lambda: ConvNet(10), lambda: timm.create_model("vit_tiny_patch16_224", img_size=16)]
)
def test_fused_equals_masked_and_is_the_plain_architecture(make) -> None:
    model = make().eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    kinds = [type(m) for m in model.modules()]
    parameters = [name for name, _ in model.named_parameters()]
    scramble(attach_masks(model, list(maskable_weights(model))))
    wrapped, masks = model(images()), read_masks(model)
    fuse_masks(model)
    assert plain(model)
    assert torch.equal(model(images()), wrapped)
    assert [type(m) for m in model.modules()] == kinds
    assert [name for name, _ in model.named_parameters()] == parameters
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key] * masks[key] if key in masks else before[key])


def test_a_copy_of_a_masked_model_is_independent() -> None:
    model = ConvNet(10).eval()
    scores = attach_masks(model, list(maskable_weights(model)))
    twin = copy.deepcopy(model)
    scramble(scores)
    fuse_masks(twin)
    expected = model(images())
    assert plain(twin)
    assert not plain(model)
    fuse_masks(model)
    assert torch.equal(model(images()), expected)
    assert not torch.equal(twin.head.weight, model.head.weight)


def test_tied_weights_share_one_mask_and_stay_tied() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    model[2].weight = model[0].weight
    scores = attach_masks(model, ["2.weight", "0.weight"])
    assert list(scores) == ["2.weight"]
    scramble(scores)
    before = model(torch.ones(1, 8))
    fuse_masks(model)
    assert torch.equal(model(torch.ones(1, 8)), before)
    assert model[2].weight is model[0].weight
    assert not model[0].weight.all()


def test_a_crash_leaves_no_parametrization() -> None:
    model = ConvNet(10)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(KeyboardInterrupt), masked(model, list(maskable_weights(model))) as scores:
        scramble(scores)
        raise KeyboardInterrupt
    assert plain(model)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_what_is_fused_inside_the_block_stays() -> None:
    model = ConvNet(10)
    with masked(model, ["head.weight"]) as scores:
        scramble(scores)
        fuse_masks(model)
    assert plain(model)
    assert not model.head.weight.all()


def test_frozen_weights_are_frozen_again() -> None:
    model = nn.Linear(3, 3).requires_grad_(False)
    with masked(model, ["weight"]) as scores:
        assert scores["weight"].requires_grad
        assert not model.parametrizations.weight.original.requires_grad
    assert not model.weight.requires_grad


def test_half_precision_weights_learn_by_full_precision_scores() -> None:
    model = nn.Linear(4, 2).to(torch.bfloat16)
    scores = attach_masks(model, ["weight"])["weight"]
    model(torch.ones(3, 4, dtype=torch.bfloat16)).float().sum().backward()
    assert scores.dtype == torch.float32
    assert scores.grad is not None
    fuse_masks(model)
    assert model.weight.dtype == torch.bfloat16


def test_memory_layout_is_kept() -> None:
    model = nn.Conv2d(8, 8, 3).to(memory_format=torch.channels_last)
    scores = attach_masks(model, ["weight"])["weight"]
    assert scores.is_contiguous(memory_format=torch.channels_last)
    assert model.weight.is_contiguous(memory_format=torch.channels_last)


def test_bad_names_are_refused_before_anything_changes() -> None:
    model = ConvNet(10)
    with pytest.raises(UsageError, match=r"did you mean head\.weight"):
        attach_masks(model, ["features.0.weight", "haed.weight"])
    with pytest.raises(UsageError, match="no weight is left"):
        attach_masks(model, [])
    assert plain(model)
    attach_masks(model, ["head.weight"])
    with pytest.raises(ModelError, match="parametrized already"), masked(model, ["head.weight"]):
        pass
    assert not plain(model), "a refused second mask must not take off the first"


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 7), max_size=4), st.integers(0, 2**32))
def test_packing_roundtrips_at_one_bit_a_weight(shape: list[int], seed: int) -> None:
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.5
    packed = pack_masks({"w": mask})
    assert packed["w"].dtype == torch.uint8
    assert packed["w"].shape == (math.ceil(mask.numel() / 8),)
    assert torch.equal(unpack_masks(packed, {"w": shape})["w"], mask)


def test_first_weight_is_the_highest_bit() -> None:
    assert pack_masks({"w": torch.tensor([True] + [False] * 8 + [True])})["w"].tolist() == [128, 64]


@pytest.mark.parametrize("shape", [(17,), (3, 3, 2), (-1,), (-4, -4), (2**40, 2**40)])
def test_a_shape_that_does_not_fit_the_bits_is_refused(shape: tuple[int, ...]) -> None:
    packed = pack_masks({"w": torch.ones(4, 4, dtype=torch.bool)})
    with pytest.raises(ArtifactError):
        unpack_masks(packed, {"w": shape})
    with pytest.raises(ArtifactError):
        unpack_masks(packed, {})
