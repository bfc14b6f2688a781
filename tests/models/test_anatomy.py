from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from freehold.errors import ModelError, UsageError
from freehold.models import (
    VGG11,
    ConvNet,
    ResNet20,
    Tap,
    dry_run,
    find_head,
    maskable_weights,
    norm_layers,
    resize_head,
    stages,
)

IMAGES = torch.zeros(2, 3, 32, 32)

# model, head, number of norm layers, number of maskable weights
ZOO: dict[str, tuple[Callable[[], nn.Module], str, int, int]] = {
    "convnet": (lambda: ConvNet(10), "head", 6, 7),
    "vgg11": (lambda: VGG11(10), "head.6", 0, 11),
    "resnet20": (lambda: ResNet20(10), "linear", 19, 20),
    "timm resnet18": (lambda: timm.create_model("resnet18", num_classes=10), "fc", 20, 21),
    "timm vit": (
        lambda: timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=10),
        "head",
        25,
        50,
    ),
    "timm vgg11_bn": (lambda: timm.create_model("vgg11_bn", num_classes=10), "head.fc", 8, 11),
    "torchvision resnet18": (lambda: torchvision.models.resnet18(num_classes=10), "fc", 20, 21),
    "data parallel": (lambda: nn.DataParallel(ConvNet(10)), "module.head", 6, 7),
}


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


class Crashing(nn.Module):
    """Fails in the middle of its forward pass, after a layer with hooks has run."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3 * 32 * 32, 4)
        self.dropout = nn.Dropout().eval()

    def forward(self, images: Tensor) -> Tensor:
        self.first(images.flatten(1))
        raise RuntimeError("out of coffee")


@pytest.mark.parametrize("name", ZOO)
def test_head_norms_and_weights_are_found(name: str) -> None:
    make, head, norms, weights = ZOO[name]
    with torch.device("meta" if "vgg11_bn" in name else "cpu"):  # 500 MB that shapes need not
        model = make()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert find_head(model, IMAGES) == head
    assert len(norm_layers(model)) == norms
    found = maskable_weights(model)
    assert len(found) == weights
    parameters = dict(model.named_parameters())
    assert all(parameters[key] is weight and weight.dim() >= 2 for key, weight in found.items())
    assert all(module.training for module in model.modules())
    assert hooks(model) == 0
    assert all(v.is_meta or torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_head_of_torchvision_vgg() -> None:
    with torch.device("meta"):
        model = torchvision.models.vgg11(num_classes=10, init_weights=False)
    assert find_head(model, IMAGES) == "classifier.6"


def test_head_follows_the_model_not_the_order_of_registration() -> None:
    class Reversed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first = nn.Linear(8, 4), nn.Linear(3 * 32 * 32, 8)

        def forward(self, images: Tensor) -> Tensor:
            return self.last(self.first(images.flatten(1)))

    assert find_head(Reversed(), IMAGES) == "last"


def test_training_flags_come_back_one_by_one() -> None:
    model = ConvNet(10).train()
    model.features[1].eval()
    flags = [m.training for m in model.modules()]
    find_head(model, IMAGES)
    stages(model, IMAGES)
    assert [m.training for m in model.modules()] == flags


@pytest.mark.parametrize("look", [find_head, stages, dry_run])
def test_nothing_is_left_behind_when_the_model_crashes(look: Callable[[nn.Module, Tensor], object]) -> None:
    model = Crashing()
    with pytest.raises(ModelError, match="out of coffee"):
        look(model, IMAGES)
    assert hooks(model) == 0
    assert model.training
    assert not model.dropout.training


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (nn.Sequential(nn.Conv2d(3, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()), "linear layer"),
        (nn.Sequential(nn.Flatten(), nn.Linear(3072, 6), nn.Unflatten(1, (2, 3)), nn.Flatten(1, 1)), "shape"),
        (nn.Sequential(nn.Conv2d(3, 10, 1)), r"shape \(2, classes\).*\[2, 10, 32, 32\]"),
        (nn.Sequential(nn.Flatten(), nn.Linear(3072, 1)), r"\[2, 1\]"),
        (nn.Sequential(nn.Flatten(), nn.Linear(100, 2)), "fails on an input"),
        (nn.LSTM(32, 8), "fails on an input|tuple"),
    ],
)
def test_what_is_no_classifier_is_refused(model: nn.Module, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        find_head(model, IMAGES)


def test_dry_run_speaks_the_models_dtype() -> None:
    assert dry_run(ConvNet(10).to(torch.bfloat16), IMAGES).dtype == torch.bfloat16


def test_patterns_exclude_layers_or_weights() -> None:
    model = ConvNet(10)
    everything = list(maskable_weights(model))
    assert list(maskable_weights(model, ["head"])) == everything[:-1]
    assert list(maskable_weights(model, ["features.*.weight"])) == ["head.weight"]
    assert everything[-1] == "head.weight"
    with pytest.raises(UsageError, match="head"):
        maskable_weights(model, ["haed"])


def test_tied_weights_are_listed_once_and_attention_is_not_forgotten() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[1].weight = model[0].weight
    assert list(maskable_weights(model)) == ["0.weight"]
    assert set(maskable_weights(nn.MultiheadAttention(8, 2))) == {"in_proj_weight", "out_proj.weight"}


def test_weights_that_cannot_be_masked_are_refused() -> None:
    with pytest.raises(ModelError, match="no convolution"):
        maskable_weights(nn.BatchNorm2d(3))
    with pytest.raises(ModelError, match="parametrized"):
        maskable_weights(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    with pytest.raises(ModelError, match="parametrized"):
        maskable_weights(nn.utils.spectral_norm(nn.Linear(3, 3)))


def test_tap_keeps_input_and_output_of_the_last_call() -> None:
    model = ConvNet(10).eval()
    images = torch.rand(4, 3, 32, 32)
    with Tap(model, "head", "input") as before, Tap(model, "head", "output") as after:
        model(torch.rand(4, 3, 32, 32))
        logits = model(images)
    assert torch.equal(before.value, model.features(images).mean((2, 3)))
    assert after.value is logits
    assert before.value.requires_grad
    assert hooks(model) == 0


def test_tap_works_through_wrappers_and_autocast() -> None:
    model = ConvNet(10).eval()
    with Tap(model, "features", "output") as tap, torch.autocast("cpu", torch.bfloat16):
        nn.DataParallel(model)(torch.rand(4, 3, 32, 32))
    assert tap.value.shape == (4, 256, 4, 4)


def test_tap_reads_keyword_arguments() -> None:
    class Keyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(input=x)

    model, x = Keyword(), torch.rand(3, 2)
    with Tap(model, "inner", "input") as tap:
        model(x)
    assert tap.value is x


def test_tap_is_removed_after_a_crash_and_says_what_it_did_not_see() -> None:
    model = Crashing()
    tap = Tap(model, "dropout", "output")
    with pytest.raises(RuntimeError, match="coffee"), tap:
        model(IMAGES)
    assert hooks(model) == 0
    with pytest.raises(ModelError, match="no tensor was seen"):
        _ = tap.value
    with pytest.raises(UsageError, match="did you mean first"):
        Tap(model, "frist", "input")


def test_resizing_keeps_what_fits() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 4, bias=False)).double()
    head = model[1]
    resize_head(model, "1", 4)
    assert model[1] is head
    resize_head(model, "1", 6)
    assert model[1].weight.shape == (6, 3072)
    assert model[1].bias is None
    assert model[1].weight.dtype == torch.float64
    with pytest.raises(ModelError, match="linear"):
        resize_head(model, "0", 6)
