from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from freehold.errors import ModelError
from freehold.models.encoder import fit_encoder
from freehold.models.zoo import ModelSpec, load_model


@pytest.fixture
def pretrained():
    return load_model("convnet", 10, seed=1).state_dict()


@pytest.mark.parametrize("prefix", ["", "module.encoder_q.", "backbone."])
def test_the_trunk_is_found_under_its_prefix_and_the_head_stays(prefix, pretrained):
    model = load_model("convnet", 10, seed=2)
    head = model.head.weight.clone()
    noise = {f"module.encoder_k.{k}": torch.zeros_like(v) for k, v in list(pretrained.items())[:3]}
    state = {prefix + k: v for k, v in pretrained.items()} | noise | {"queue": torch.zeros(4, 4)}
    unused = fit_encoder(model, state, where="file")
    for name, tensor in model.state_dict().items():
        if not name.startswith("head"):
            assert torch.equal(tensor, pretrained[name]), name
    assert torch.equal(model.head.weight, head)
    assert set(unused) == {*noise, "queue", f"{prefix}head.weight", f"{prefix}head.bias"}


def test_an_encoder_without_a_head_or_with_another_will_do(pretrained):
    for change in ({}, {"head.weight": torch.zeros(1000, 256), "head.bias": torch.zeros(1000)}):
        state = {k: v for k, v in pretrained.items() if not k.startswith("head")} | change
        model = load_model("convnet", 7, seed=2)
        fit_encoder(model, state, where="file")
        assert torch.equal(model.features[0].weight, pretrained["features.0.weight"])


def test_what_is_no_encoder_of_this_model_is_refused_and_nothing_is_loaded(pretrained):
    model = load_model("convnet", 10, seed=2)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    for state in (
        {},
        {"x.y": torch.zeros(3)},
        {k: v for k, v in pretrained.items() if k != "features.4.weight"},
    ):
        with pytest.raises(ModelError, match="file: holds no encoder"):
            fit_encoder(model, state, where="file")
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_a_specification_names_its_encoder(tmp_path, pretrained):
    save_file({f"backbone.{k}": v for k, v in pretrained.items()}, tmp_path / "ssl.safetensors")
    spec = ModelSpec(uri="convnet", num_classes=5, encoder=str(tmp_path / "ssl.safetensors"))
    assert torch.equal(spec.build().features[0].weight, pretrained["features.0.weight"])
    assert not torch.equal(spec.build(load_weights=False).features[0].weight, pretrained["features.0.weight"])
