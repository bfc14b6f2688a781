"""PointNet: a network for point clouds, which does not care in which order the points come."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PointNet(nn.Module):
    """PointNet classifier (Qi et al., CVPR 2017), 0.2 M weights at the default width, 3.5 M at 1.

    A cloud is an image whose three channels are x, y and z: ``(B, 3, H, W)`` holds H * W points in any
    order, see :mod:`freehold.data.points`.

    Args:
        num_classes: K.
        channels: 3; the coordinates.
        width: of all layers, as a share of the published one.
        feature_transform: also align the features of points, as published; the input always is.
        dropout: before the last layer.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int = 3,
        *,
        width: float = 0.25,
        feature_transform: bool = False,
        dropout: float = 0.4,
    ) -> None:
        super().__init__()
        small, middle, large, wide, narrow = (max(8, round(width * n)) for n in (64, 128, 1024, 512, 256))
        widths = (small, middle, large, wide, narrow)
        self.align = Transform(channels, widths)
        self.conv1, self.bn1 = nn.Conv1d(channels, small, 1, bias=False), nn.BatchNorm1d(small)
        self.align_features = Transform(small, widths) if feature_transform else None
        self.conv2, self.bn2 = nn.Conv1d(small, middle, 1, bias=False), nn.BatchNorm1d(middle)
        self.conv3, self.bn3 = nn.Conv1d(middle, large, 1, bias=False), nn.BatchNorm1d(large)
        self.fc1, self.bn4 = nn.Linear(large, wide, bias=False), nn.BatchNorm1d(wide)
        self.fc2, self.bn5 = nn.Linear(wide, narrow, bias=False), nn.BatchNorm1d(narrow)
        self.dropout, self.relu = nn.Dropout(dropout), nn.ReLU()
        self.head = nn.Linear(narrow, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, num_classes)``."""
        points = self.align(images.flatten(2))
        points = self.relu(self.bn1(self.conv1(points)))
        if self.align_features is not None:
            points = self.align_features(points)
        points = self.relu(self.bn2(self.conv2(points)))
        features = self.bn3(self.conv3(points)).amax(2)
        features = self.relu(self.bn4(self.fc1(features)))
        features = self.relu(self.bn5(self.dropout(self.fc2(features))))
        logits: Tensor = self.head(features)
        return logits


class Transform(nn.Module):
    """T-Net: looks at all points ``(B, C, P)`` and multiplies each by one matrix ``(C, C)`` a cloud.

    The matrix starts at the identity.
    """

    def __init__(self, channels: int, widths: tuple[int, int, int, int, int]) -> None:
        super().__init__()
        small, middle, large, wide, narrow = widths
        self.look = nn.Sequential(
            *[nn.Conv1d(channels, small, 1, bias=False), nn.BatchNorm1d(small), nn.ReLU()],
            *[nn.Conv1d(small, middle, 1, bias=False), nn.BatchNorm1d(middle), nn.ReLU()],
            *[nn.Conv1d(middle, large, 1, bias=False), nn.BatchNorm1d(large), nn.ReLU()],
        )
        self.judge = nn.Sequential(
            *[nn.Linear(large, wide, bias=False), nn.BatchNorm1d(wide), nn.ReLU()],
            *[nn.Linear(wide, narrow, bias=False), nn.BatchNorm1d(narrow), nn.ReLU()],
        )
        self.matrix = nn.Linear(narrow, channels * channels)
        nn.init.zeros_(self.matrix.weight)
        with torch.no_grad():
            self.matrix.bias.copy_(torch.eye(channels).flatten())

    def forward(self, points: Tensor) -> Tensor:
        """The transformed points, ``(B, C, P)``."""
        matrix = self.matrix(self.judge(self.look(points).amax(2))).view(len(points), points.shape[1], -1)
        turned: Tensor = matrix @ points
        return turned
