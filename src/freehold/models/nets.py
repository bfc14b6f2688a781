"""The built-in networks: small enough for one CPU core, one of each kind that protection meets."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvNet(nn.Module):
    """Six 3x3 convolutions with batch norm, 0.57 M weights: the workhorse of the demo and the benchmarks.

    Takes ``(B, channels, H, W)`` with H and W at least 8.
    """

    def __init__(self, num_classes: int, channels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width, pool in [(32, True), (64, False), (64, True), (128, False), (128, True), (256, False)]:
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
            layers += [nn.ReLU(inplace=True)]
            if pool:
                layers += [nn.MaxPool2d(2)]
            channels = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, num_classes)``."""
        features: Tensor = self.features(images)
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


class VGG11(nn.Module):
    """VGG-11 without batch norm and with the 512·s²-256-256-K head of the NTL literature, s = image_size/32.

    The trunk has torchvision's layer names, so ``features.*`` of an ImageNet VGG-11 fits. Takes
    ``(B, channels, image_size, image_size)``, image_size a multiple of 32.
    """

    def __init__(
        self, num_classes: int, channels: int = 3, *, image_size: int = 32, dropout: float = 0.5
    ) -> None:
        super().__init__()
        if image_size < 32 or image_size % 32:
            raise ValueError(f"image_size must be a multiple of 32, not {image_size}")
        layers: list[nn.Module] = []
        for widths in [(64,), (128,), (256, 256), (512, 512), (512, 512)]:
            for width in widths:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            layers += [nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            *[nn.Linear(channels * (image_size // 32) ** 2, 256), nn.ReLU(inplace=True), nn.Dropout(dropout)],
            *[nn.Linear(256, 256), nn.ReLU(inplace=True), nn.Dropout(dropout)],
            nn.Linear(256, num_classes),
        )
        for layer in layers:  # without batch norm, torch's default would let the signal die out
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, num_classes)``."""
        logits: Tensor = self.head(torch.flatten(self.features(images), 1))
        return logits


class ResNet20(nn.Module):
    """CIFAR ResNet-20: stages of 16/32/64 channels, three blocks each, shortcuts without parameters.

    He et al., "Deep residual learning for image recognition", CVPR 2016, section 4.2, option A.
    Takes ``(B, channels, H, W)``, made for 32x32.
    """

    def __init__(self, num_classes: int, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*[_Block(16, 16) for _ in range(3)])
        self.layer2 = nn.Sequential(_Block(16, 32), *[_Block(32, 32) for _ in range(2)])
        self.layer3 = nn.Sequential(_Block(32, 64), *[_Block(64, 64) for _ in range(2)])
        self.linear = nn.Linear(64, num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, num_classes)``."""
        x = F.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


class _Block(nn.Module):
    """Two 3x3 convolutions and a shortcut; where the width doubles the image is halved and zero-padded."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stride, self.padding = outputs // inputs, (outputs - inputs) // 2
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))
        return F.relu(y + x)
