from __future__ import annotations

import numpy as np
import pytest
import torch

from freehold.models import VGG11, ConvNet, ResNet20, load_model


def test_convnet_has_the_documented_shape() -> None:
    model = ConvNet(10)
    assert sum(p.numel() for p in model.parameters() if p.dim() >= 2) == 574_816
    assert model.head.in_features == 256
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert ConvNet(7, channels=1)(torch.zeros(2, 1, 16, 16)).shape == (2, 7)


@pytest.mark.parametrize("side", [32, 64])
def test_vgg11_fits_its_image_size(side: int) -> None:
    model = VGG11(5, image_size=side)
    assert model.head[0].in_features == 512 * (side // 32) ** 2
    assert model(torch.zeros(2, 3, side, side)).shape == (2, 5)


def test_vgg11_keeps_its_signal() -> None:
    """Eight convolutions without batch norm: the trunk must neither die out nor explode."""
    model = load_model("vgg11", 10)
    images = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    spread = model.features(images).std(0).mean()
    assert 0.1 < spread < 10


def test_resnet20_shortcut_halves_and_pads_with_zeros() -> None:
    block = ResNet20(10).layer2[0].eval()
    torch.nn.init.zeros_(block.bn2.weight)  # silences the branch
    images = torch.rand(1, 16, 8, 8)
    out = block(images)
    assert torch.equal(out[:, 8:24], images[:, :, ::2, ::2])
    assert not out[:, :8].any()
    assert not out[:, 24:].any()


def test_resnet20_scores_what_its_pretrained_weights_promise(shared_data) -> None:
    model = load_model("resnet20", 10, shared_data / "weights" / "cifar10_resnet20.safetensors").eval()
    model = model.to(memory_format=torch.channels_last)
    with np.load(shared_data / "cifar10.npz", allow_pickle=False) as archive:
        images = torch.from_numpy(archive["test_images"]).permute(0, 3, 1, 2)
        labels = torch.from_numpy(archive["test_labels"])
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.inference_mode():
        right = sum(
            (model((x / 255 - mean) / std).argmax(1) == y).sum()
            for x, y in zip(images.split(500), labels.split(500), strict=True)
        )
    assert float(right) / len(labels) == pytest.approx(0.915, abs=0.001)
