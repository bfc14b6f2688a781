from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from freehold.errors import ConfigError, MissingDependencyError, MissingInputError, ModelError, UsageError
from freehold.models import ConvNet, ModelSpec, load_model, state_hash

FACTORIES = """
import torch
from torch import nn
from freehold.models import ConvNet

def knows_classes(num_classes, channels, width=4):
    stem = nn.Conv2d(channels, width, 3)
    return nn.Sequential(stem, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))

def fixed():
    return ConvNet(1000)

def fixed_28():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 28 * 28, 16), nn.ReLU(), nn.Linear(16, 3))

def headless():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

def number():
    return 7

def crash():
    raise OSError("no such disk")

constant = 3
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_factories.py").write_text(FACTORIES)
    (tmp_path / "my_broken.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_factories"
    sys.modules.pop("my_factories", None)


@pytest.mark.parametrize(
    ("uri", "channels", "options", "side"),
    [
        ("convnet", 3, {}, 32),
        ("convnet", 1, {}, 28),
        ("vgg11", 1, {"image_size": 64}, 64),
        ("resnet20", 3, {}, 32),
        ("timm:resnet18", 1, {}, 32),
        ("timm:vit_tiny_patch16_224", 3, {"img_size": 32}, 32),
        ("torchvision:resnet18", 3, {}, 32),
    ],
)
def test_models_come_by_uri(uri: str, channels: int, options: dict[str, int], side: int) -> None:
    model = load_model(uri, 6, channels=channels, **options)
    assert model.training
    assert model.eval()(torch.zeros(2, channels, side, side)).shape == (2, 6)


def test_a_build_is_a_function_of_its_seed_and_leaves_the_global_stream_alone() -> None:
    torch.random.default_generator.manual_seed(5)
    before = torch.random.get_rng_state()
    spec = ModelSpec(uri="convnet", num_classes=10)
    one, again, other = spec.build(), spec.build(), spec.build(seed=1)
    assert state_hash(one) == state_hash(again) != state_hash(other)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert state_hash(load_model("convnet", 10, seed=1)) == state_hash(other)


@pytest.mark.parametrize(
    ("uri", "hint"),
    [
        ("convent", "did you mean convnet"),
        ("resnet18", "resnet20|timm:NAME"),
        ("", "timm:NAME"),
        ("timm:resnet_18", "timm:resnet18"),
        ("timm:hf-hub:someone/model", "timm"),
        ("timm:", "timm"),
        ("torchvision:resnet_18", "torchvision:resnet18"),
        ("torchvision:fasterrcnn_resnet50_fpn", "torchvision"),
        ("no.such.package:build", "No module named"),
        ("json:no_such_function", "no attribute"),
        ("json:__doc__", "not a function"),
        (".relative:build", "cannot import"),
        (":build", "cannot import"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(uri: str, hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        load_model(uri, 10)


@pytest.mark.parametrize("uri", ["convnet", "timm:resnet18", "torchvision:resnet18"])
def test_unknown_options_are_refused(uri: str) -> None:
    with pytest.raises(UsageError, match="no_such_option"):
        load_model(uri, 10, no_such_option=1)


def test_wrong_values_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_classes"):
        load_model("convnet", 1)
    with pytest.raises(ConfigError, match="channels"):
        load_model("convnet", 10, channels=4)
    with pytest.raises(UsageError, match="multiple of 32"):
        load_model("vgg11", 10, image_size=40)
    with pytest.raises(UsageError, match="three channels"):
        load_model("torchvision:resnet18", 10, channels=1)
    with pytest.raises(ConfigError, match=r"did you mean 'weights'"):
        ModelSpec(uri="convnet", num_classes=10, weigths="x")
    with pytest.raises(MissingInputError):
        load_model("convnet", 10, weights="nowhere.safetensors")


def test_a_missing_library_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingDependencyError, match="pip install timm"):
        load_model("timm:resnet18", 10)


def test_nothing_is_downloaded_when_weights_are_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    seen = {}

    def create(name: str, **options: object) -> nn.Module:
        seen.update(options)
        return ConvNet(10)

    monkeypatch.setattr(timm, "create_model", create)
    load_model("timm:resnet18", 10)
    assert seen["pretrained"] is False
    spec = ModelSpec(
        uri="timm:resnet18", num_classes=10, options={"pretrained": True, "checkpoint_path": "x.pth"}
    )
    spec.build()
    assert seen["pretrained"] is True
    spec.build(load_weights=False)
    assert seen["pretrained"] is False
    assert spec.runs_code is False


def test_factories_get_what_they_ask_for(factories: str) -> None:
    model = load_model(f"{factories}:knows_classes", 5, channels=1, width=8)
    assert model.eval()(torch.zeros(2, 1, 16, 16)).shape == (2, 5)
    assert ModelSpec(uri=f"{factories}:knows_classes", num_classes=5).runs_code


@pytest.mark.parametrize(("name", "side"), [("fixed", 32), ("fixed_28", 28)])
def test_a_factory_that_knows_no_classes_gets_a_new_head(factories: str, name: str, side: int) -> None:
    model = load_model(f"{factories}:{name}", 5)
    assert model.training
    assert model.eval()(torch.zeros(2, 3, side, side)).shape == (2, 5)


def test_broken_factories_are_reported(factories: str) -> None:
    with pytest.raises(ModelError, match="gave a int"):
        load_model(f"{factories}:number", 5)
    with pytest.raises(ModelError, match="no such disk"):
        load_model(f"{factories}:crash", 5)
    with pytest.raises(UsageError, match="not a function"):
        load_model(f"{factories}:constant", 5)
    with pytest.raises(ModelError, match="take num_classes"):
        load_model(f"{factories}:headless", 5)
    with pytest.raises(UsageError, match="ZeroDivisionError"):
        load_model("my_broken:build", 5)
