from __future__ import annotations

import numpy as np
import pytest
import torch

from freehold.data.points import as_images
from freehold.data.sources import load_domain
from freehold.errors import DataError, MissingInputError
from freehold.models.norm_pairs import norm_pairs
from freehold.models.pointnet import PointNet

RNG = np.random.default_rng(0)


def test_the_order_of_points_does_not_matter_and_both_transforms_start_at_the_identity():
    torch.manual_seed(0)
    net = PointNet(4, feature_transform=True).eval()
    clouds = torch.randn(3, 3, 8, 8)
    shuffled = clouds.flatten(2)[:, :, torch.randperm(64)].view(3, 3, 8, 8)
    assert torch.allclose(net(clouds), net(shuffled), atol=1e-5) and net(clouds).shape == (3, 4)
    points = clouds.flatten(2)
    assert torch.allclose(net.align(points), points, atol=1e-6)
    net.align.matrix.bias.data = torch.tensor([0.0, 1, 0, 1, 0, 0, 0, 0, 1])
    assert torch.allclose(net.align(points), points[:, [1, 0, 2]], atol=1e-6)


def test_passports_find_the_shared_layers():
    names = [pair.layer for pair in norm_pairs(PointNet(2), torch.zeros(2, 3, 8, 8))]
    assert names[-5:] == ["conv1", "conv2", "conv3", "fc1", "fc2"] and len(names) == 10


def archive(path, points, **more):
    labels = np.arange(len(points)) % 2
    np.savez(path, train_points=points, train_labels=labels, test_points=points, test_labels=labels, **more)
    return f"points:{path}"


def test_clouds_become_images_in_the_unit_ball(tmp_path):
    points = RNG.normal(size=(40, 64, 3)).astype(np.float16) * 5 + 2
    domain = load_domain(archive(tmp_path / "c.npz", points, class_names=np.array(["chair", "lamp"])))
    assert domain.classes == ("chair", "lamp") and len(domain.train) + len(domain.val) == 40
    assert domain.test.images.shape == (40, 3, 8, 8) and domain.test.images.dtype == torch.uint8
    cloud = domain.test.images[7].flatten(1).T.double() / 127.5 - 1
    expected = points[7].astype(np.float64) - points[7].astype(np.float64).mean(0)
    expected /= np.linalg.norm(expected, axis=1).max()
    assert np.abs(cloud.numpy() - expected).max() < 1.1 / 255


@pytest.mark.parametrize(
    "points",
    [np.zeros((4, 60, 3)), np.zeros((4, 64, 2)), np.zeros((4, 64, 3), int), np.full((4, 64, 3), np.nan)],
)
def test_what_is_no_cloud_is_refused(tmp_path, points):
    with pytest.raises(DataError):
        as_images(points)
    with pytest.raises(DataError):
        load_domain(archive(tmp_path / "c.npz", points))


def test_missing_files_and_keys_are_named(tmp_path):
    with pytest.raises(MissingInputError):
        load_domain(f"points:{tmp_path / 'none.npz'}")
    np.savez(tmp_path / "c.npz", train_points=np.zeros((2, 16, 3)))
    with pytest.raises(DataError, match="train_labels"):
        load_domain(f"points:{tmp_path / 'c.npz'}")
