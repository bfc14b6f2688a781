from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from freehold.data import load_domain
from freehold.errors import DataError, MissingInputError, UsageError


def test_an_archive_becomes_a_domain_with_a_stratified_val(write_npz):
    path = write_npz()
    domain = load_domain(f"npz:{path}", val_fraction=0.25)
    assert domain.name == "set"
    assert domain.classes == ("0", "1", "2")
    assert {k: len(s) for k, s in domain.splits().items()} == {"train": 30, "val": 10, "test": 12}
    assert sorted(domain.val.labels.bincount().tolist()) == [3, 3, 4]
    with np.load(path) as arrays:
        given = {
            i.tobytes(): int(y) for i, y in zip(arrays["train_images"], arrays["train_labels"], strict=True)
        }
        assert torch.equal(domain.test.images, torch.from_numpy(arrays["test_images"]).permute(0, 3, 1, 2))
    found = {}
    for split in (domain.train, domain.val):
        images = split.images.permute(0, 2, 3, 1).contiguous().numpy()
        found |= {i.tobytes(): int(y) for i, y in zip(images, split.labels, strict=True)}
    assert found == given  # 40 distinct images: nothing lost, doubled or mislabelled
    assert domain.record["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert domain.record["splits"]["val"] == "25% of train_images, stratified by class, seed 0"


def test_a_stated_val_grey_images_and_names_are_kept(write_npz):
    grey = np.zeros((9, 6, 6), np.uint8)
    path = write_npz(
        train_images=grey,
        train_labels=np.arange(9, dtype=np.uint8) % 3,
        val_images=grey[:4, :, :, None],
        val_labels=np.array([0, 1, 0, 1], np.int16),
        test_images=grey[:3],
        test_labels=np.arange(3),
        class_names=np.array(["cat", "dog", "cow"]),
    )
    domain = load_domain(f"npz:{path}", name="<script>")
    assert domain.name == "<script>"
    assert domain.classes == ("cat", "dog", "cow")
    assert domain.train.images.shape == (9, 1, 6, 6)
    assert domain.val.labels.tolist() == [0, 1, 0, 1]


def test_classes_that_never_occur_may_be_asked_for(write_npz):
    assert load_domain(f"npz:{write_npz()}", classes=5).classes == ("0", "1", "2", "3", "4")


LABELS = np.arange(40) % 3
IMAGES = np.zeros((40, 6, 6, 3), np.uint8)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"train_labels": None}, "set.npz: train_labels: key missing; the file has train_images"),
        ({"val_labels": LABELS}, "set.npz: val_images: key missing"),
        ({"train_images": IMAGES / 255}, "train_images: expected uint8 levels 0..255, got float64"),
        ({"train_images": np.full((40, 6, 6), np.nan, np.float32)}, r"float32 with NaN \(replace NaN"),
        ({"train_images": IMAGES.astype(np.int32)}, "got int32"),
        ({"train_images": IMAGES.transpose(0, 3, 1, 2)}, r"transpose\(0, 2, 3, 1\)"),
        ({"train_images": IMAGES[0]}, r"train_labels: 40 labels for 6 images"),
        ({"train_images": IMAGES[:, 0, 0]}, r"train_images: expected \(N, H, W\)"),
        ({"train_images": IMAGES[:0]}, "train_images: no images"),
        ({"train_labels": LABELS.astype(float)}, "train_labels: expected integers"),
        ({"train_labels": LABELS[:, None]}, r"expected integers of shape \(N,\), got int64 \(40, 1\)"),
        ({"train_labels": LABELS[:-1]}, "train_labels: 39 labels for 40 images"),
        ({"train_labels": LABELS - 1}, "train_labels: labels run from -1 to 1"),
        ({"train_labels": np.full(40, 2**64 - 1, np.uint64)}, "labels run from"),
        ({"train_labels": LABELS + 10**9}, "1000000003 classes are beyond reason"),
        ({"train_labels": LABELS * 0}, "train: all 36 labels are of class 0"),
        ({"test_labels": np.zeros(12, int)}, "test: all 12 labels are of class 0"),
        ({"test_images": np.zeros((12, 5, 6, 3), np.uint8)}, r"test: images are \(3, 5, 6\)"),
        ({"class_names": np.array(["a", "b"])}, "class_names|label 2 is not below"),
        ({"class_names": np.array(["a", "b", "b"])}, "class name occurs twice"),
        ({"class_names": np.arange(3)}, "class_names: expected texts"),
        ({"train_labels": np.array([{}] * 40)}, "train_labels: unreadable: .*pickle"),
    ],
)
def test_a_bad_archive_is_told_by_file_and_key(write_npz, changes, told):
    with pytest.raises(DataError, match=told):
        load_domain(f"npz:{write_npz(**changes)}")


def test_labels_beyond_the_asked_classes_are_refused(write_npz):
    with pytest.raises(
        DataError, match=r"set.npz: train_labels: label 2 is not below the number of classes, 2"
    ):
        load_domain(f"npz:{write_npz()}", classes=2)


@pytest.mark.parametrize("kept", [0, 10, 300, 2000, -1])
def test_a_truncated_archive_is_a_data_error(write_npz, kept):
    path = write_npz()
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"set\.npz"):
        load_domain(f"npz:{path}")


def test_a_damaged_member_is_a_data_error(write_npz):
    path = write_npz()
    data = bytearray(path.read_bytes())
    data[600:640] = bytes(40)
    path.write_bytes(data)
    with pytest.raises(DataError, match="train_images: unreadable"):
        load_domain(f"npz:{path}")


def test_other_files_and_missing_ones(tmp_path: Path):
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(DataError, match="a single array, not an npz archive"):
        load_domain(f"npz:{tmp_path / 'one.npy'}")
    with pytest.raises(MissingInputError, match=r"gone\.npz: no such file"):
        load_domain(f"npz:{tmp_path / 'gone.npz'}")
    with pytest.raises(MissingInputError):
        load_domain(f"npz:{tmp_path}")


@pytest.mark.parametrize("fraction", [0, 0.6, -1, float("nan")])
def test_val_fraction_has_a_range(write_npz, fraction):
    with pytest.raises(UsageError, match="val_fraction"):
        load_domain(f"npz:{write_npz()}", val_fraction=fraction)


def test_real_archives(shared_data):
    cifar = load_domain(f"npz:{shared_data / 'cifar10.npz'}", limit=200)
    imagenet = load_domain(f"npz:{shared_data / 'tinyimagenet_cifar7.npz'}", limit=200)
    assert cifar.classes == imagenet.classes  # though only seven of the ten occur in the second
    assert sorted(imagenet.test.labels.unique().tolist()) == [1, 2, 3, 5, 6, 8, 9]
    usps = load_domain(f"npz:{shared_data / 'usps.npz'}")
    assert {k: len(s) for k, s in usps.splits().items()} == {"train": 6562, "val": 729, "test": 2007}
    with pytest.raises(DataError, match=r"train_images: key missing; the file has .*train_points"):
        load_domain(f"npz:{shared_data / 'modelnet_chair_monitor.npz'}")
