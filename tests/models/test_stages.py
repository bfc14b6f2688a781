from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from freehold.errors import ModelError
from freehold.models import VGG11, ConvNet, ResNet20, stages

RESNET = ("maxpool", "layer1", "layer2", "layer3", "layer4")
VGG = tuple(f"features.{i}" for i in (2, 5, 10, 15, 20))


@pytest.mark.parametrize(
    ("model", "side", "ends"),
    [
        (ConvNet(10), 32, tuple(f"features.{i}" for i in (3, 10, 17, 20))),
        (nn.DataParallel(ConvNet(10)), 32, tuple(f"module.features.{i}" for i in (3, 10, 17, 20))),
        (VGG11(10), 32, VGG),
        (VGG11(10, image_size=64), 64, VGG),
        (ResNet20(10), 32, ("layer1", "layer2", "layer3")),
        ("timm:resnet18", 32, RESNET),
        ("timm:resnet18", 64, RESNET),
        ("timm:vgg11_bn", 32, tuple(f"features.{i}" for i in (3, 7, 14, 21, 28))),
        (
            "timm:densenet121",
            64,
            ("features.pool0", *(f"features.transition{i}" for i in (1, 2, 3)), "features.norm5"),
        ),
        ("timm:convnext_atto", 64, tuple(f"stages.{i}" for i in range(4))),
        ("timm:swin_tiny_patch4_window7_224", 224, tuple(f"layers.{i}" for i in range(4))),
        ("timm:vit_tiny_patch16_224", 224, tuple(f"blocks.{i}" for i in range(12))),
        ("torchvision:resnet18", 64, RESNET),
        ("torchvision:vgg11", 32, VGG),
    ],
    ids=str,
)
def test_stages_end_where_the_literature_cuts(
    model: nn.Module | str, side: int, ends: tuple[str, ...]
) -> None:
    if isinstance(model, str):
        library, _, name = model.partition(":")
        model = timm.create_model(name) if library == "timm" else torchvision.models.get_model(name)
    found = stages(model, torch.zeros(1, 3, side, side))
    assert found == ends
    assert all(not m._forward_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())


class Skips(nn.Module):
    """A residual branch written by hand in the outermost forward: each form a chain of calls would miss."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.branch = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.inner = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.after = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.head = nn.Linear(16, 4)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        y = self.inner(self.branch(x))
        if self.kind == "in place":
            y += x
        elif self.kind == "sum":
            y = y + x
        return self.head(F.relu(self.after(y)).mean((2, 3)))


@pytest.mark.parametrize(("kind", "first"), [("in place", "stem"), ("sum", "stem"), ("none", "inner")])
def test_never_inside_a_residual_branch(kind: str, first: str) -> None:
    assert stages(Skips(kind), torch.zeros(2, 3, 16, 16)) == (first, "after")


def test_cutting_there_cuts_all_paths() -> None:
    """The property itself, checked by hand: zeroing a stage's output makes all images look alike."""
    model = timm.create_model("resnet18", num_classes=4).eval()
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for end in stages(model, images):
        handle = model.get_submodule(end).register_forward_hook(lambda _, args, output: output * 0)
        with torch.no_grad():
            logits = model(images)
        handle.remove()
        assert torch.equal(logits[0], logits[1])
        assert torch.equal(logits[0], logits[2])


def test_shared_modules_are_no_stage() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.pool = nn.MaxPool2d(2)
            self.head = nn.Linear(3, 4)

        def forward(self, images: Tensor) -> Tensor:
            x = self.pool(self.conv(self.pool(self.conv(images))))
            return self.head(x.mean((2, 3)))

    with pytest.raises(ModelError, match="name the modules"):
        stages(Shared(), torch.zeros(2, 3, 16, 16))


@pytest.mark.parametrize(
    "model",
    [nn.Sequential(nn.Flatten(), nn.Linear(768, 8), nn.ReLU(), nn.Linear(8, 4))],
)
def test_a_model_without_stages_says_how_to_go_on(model: nn.Module) -> None:
    with pytest.raises(ModelError, match="name the modules"):
        stages(model, torch.zeros(2, 3, 16, 16))
