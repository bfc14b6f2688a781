from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from freehold.data import Domain, load_domain
from freehold.errors import DataError, FreeholdError, MissingDependencyError, MissingInputError, UsageError


class Pairs(Dataset):
    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, row):
        return self.images[row], self.labels[row]


LEVELS = np.random.default_rng(0).integers(0, 256, (12, 5, 4, 3), dtype=np.uint8)
LABELS = [row % 3 for row in range(12)]


def as_pil(images):
    return [Image.fromarray(image) for image in images]


def as_float_tensors(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2) / 255


def as_bytes(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def as_float_arrays(images):
    return (images / 255).astype(np.float16 if images.dtype != np.uint8 else np.float64)


@pytest.mark.parametrize("form", [as_pil, as_float_tensors, as_bytes, as_float_arrays, np.asarray])
def test_every_form_of_image_gives_the_same_pixels(form):
    labels = torch.tensor(LABELS) if form is as_bytes else [np.int32(label) for label in LABELS]
    data = Pairs(form(LEVELS), labels)
    domain = Domain.from_datasets(data, data, data, name="pairs")
    assert torch.equal(domain.test.images, torch.from_numpy(LEVELS).permute(0, 3, 1, 2))
    assert domain.test.labels.tolist() == LABELS
    assert domain.classes == ("0", "1", "2")
    assert domain.record["splits"] == {k: f"the {k} dataset" for k in ("train", "val", "test")}


def test_missing_splits_are_carved_from_train():
    data = Pairs(as_bytes(np.random.default_rng(1).integers(0, 256, (60, 4, 4, 3), np.uint8)), [0, 1, 2] * 20)
    domain = Domain.from_datasets(data, name="one", val_fraction=0.2, classes=["x", "y", "z"])
    assert [len(split) for split in domain.splits().values()] == [36, 12, 12]
    assert all(split.labels.unique().tolist() == [0, 1, 2] for split in domain.splits().values())
    everything = torch.cat([split.images for split in domain.splits().values()])
    assert len({image.numpy().tobytes() for image in everything}) == 60
    assert domain.classes == ("x", "y", "z")
    assert domain.record["splits"]["train"] == "the train dataset without val and test"


def test_torch_datasets_subsets_and_grey_images_work():
    grey = TensorDataset(torch.rand(20, 1, 6, 6), torch.arange(20) % 2)
    domain = Domain.from_datasets(Subset(grey, range(16)), Subset(grey, range(16, 20)), name="grey")
    assert domain.train.images.shape[1:] == (1, 6, 6)
    flat = Pairs(torch.rand(20, 6, 6), LABELS[:3] * 6 + [0, 1])
    assert Domain.from_datasets(flat, grey, name="flat").train.images.shape[1:] == (1, 6, 6)
    colour = Pairs(torch.rand(20, 3, 6, 6), [0, 1] * 10)
    assert Domain.from_datasets(colour, grey, name="mixed").test.images.shape[1:] == (3, 6, 6)


def test_different_sizes_are_resized_or_refused():
    images = [torch.rand(3, 4 + row % 2, 6) for row in range(12)]
    with pytest.raises(DataError, match=r"item 1 is 6x5 pixels but item 0 is 6x4 .*image_size"):
        Domain.from_datasets(Pairs(images, LABELS), name="sizes")
    domain = Domain.from_datasets(Pairs(images, LABELS), name="sizes", image_size=8, val_fraction=0.25)
    assert domain.train.images.shape == (6, 3, 8, 8)


def broken(position: int, image=None, label=None) -> Pairs:
    images, labels = list(as_float_tensors(LEVELS)), list(LABELS)
    images[position] = images[position] if image is None else image
    labels[position] = labels[position] if label is None else label
    return Pairs(images, labels)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (broken(3, torch.full((3, 5, 4), torch.nan)), r"bad: train\[3\]: image holds NaN"),
        (broken(0, torch.full((3, 5, 4), -1.0)), r"train\[0\]: image holds values from -1 to -1"),
        (broken(0, torch.full((3, 5, 4), 255.0)), "InputSpec"),
        (broken(0, torch.full((3, 5, 4), 7)), r"train\[0\]: Tensor torch.int64 is no image"),
        (broken(0, torch.rand(4, 5, 4)), r"image of shape \(4, 5, 4\)"),
        (broken(0, np.zeros((5, 4, 3), np.uint16)), "ndarray uint16 is no image"),
        (broken(0, "cat.png"), "str is no image"),
        (broken(2, label=1.5), r"train\[2\]: label 1.5 is no integer"),
        (broken(2, label="cat"), "label 'cat' is no integer"),
        (broken(2, label=torch.tensor([1, 0])), "is no integer"),
        (broken(2, label=-1), "label -1 is no class number"),
        (broken(2, label=2**70), "is no class number"),
        (Pairs([], []), "bad: train: the dataset is empty"),
        (Pairs(LEVELS, [*LABELS, 0]), r"train\[12\]: the dataset raised IndexError"),
        (Pairs(LEVELS, [0] * 12), "labels are of class 0"),
        ([torch.rand(3, 4, 4)] * 4, r"expected \(image, label\)|no image"),
        (5, "int has no length or no items"),
    ],
)
def test_a_bad_dataset_is_told_by_its_item(data, told):
    with pytest.raises(DataError, match=told):
        Domain.from_datasets(data, name="bad")


def test_a_stream_is_refused():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter([])

    with pytest.raises(DataError, match="Stream has no length"):
        Domain.from_datasets(Stream(), name="stream")


def write_mnist(root: Path, train: int = 60, test: int = 20) -> None:
    """MNIST's own file format, with random pixels."""
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for prefix, count in (("train", train), ("t10k", test)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        header = struct.pack(">4i", 0x803, count, 28, 28)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(
            struct.pack(">2i", 0x801, count) + labels.tobytes()
        )


def test_torchvision_with_a_train_parameter(tmp_path):
    write_mnist(tmp_path)
    domain = load_domain("torchvision:MNIST", root=tmp_path, val_fraction=0.2)
    assert domain.name == "mnist"
    assert domain.classes == tuple("0123456789")  # torchvision's "0 - zero" would agree with no other digits
    assert [len(split) for split in domain.splits().values()] == [48, 12, 20]
    assert domain.train.images.shape[1:] == (1, 28, 28)
    assert domain.record["source"] == "torchvision:MNIST"
    small = load_domain("torchvision:MNIST", root=tmp_path, limit=20, image_size=32)
    assert small.test.images.shape == (20, 1, 32, 32)
    assert len(small.train) <= 20


def test_damaged_torchvision_files_and_missing_packages(tmp_path, monkeypatch):
    write_mnist(tmp_path)
    file = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    for kept in (0, 10, 500):
        file.write_bytes(file.read_bytes()[:kept] if kept else b"")
        with pytest.raises(FreeholdError, match="torchvision:MNIST"):
            load_domain("torchvision:MNIST", root=tmp_path)
        shutil.rmtree(tmp_path / "MNIST")
        write_mnist(tmp_path)

    def needs_scipy(root, split):
        raise ModuleNotFoundError("No module named 'scipy'", name="scipy")

    monkeypatch.setattr("torchvision.datasets.SVHN", needs_scipy)
    with pytest.raises(MissingDependencyError, match="pip install scipy"):
        load_domain("torchvision:SVHN", root=tmp_path)


def test_torchvision_with_a_split_parameter(tmp_path, monkeypatch):
    from torchvision import datasets

    class Flowers(Pairs):
        def __init__(self, root, split="train", transform=None):
            if split not in ("train", "val", "test"):
                raise ValueError(split)
            size = {"train": 12, "val": 6, "test": 9}[split]
            super().__init__(LEVELS[:size], LABELS[:size])

    monkeypatch.setattr(datasets, "Flowers102", Flowers)
    domain = load_domain("torchvision:Flowers102", root=tmp_path)
    assert [len(split) for split in domain.splits().values()] == [12, 6, 9]
    with pytest.raises(UsageError, match="cannot be downloaded"):
        load_domain("torchvision:Flowers102", root=tmp_path, download=True)


def test_torchvision_says_what_it_needs(tmp_path):
    with pytest.raises(UsageError, match=r"no dataset 'MNISTT' \(did you mean 'MNIST'\?\)"):
        load_domain("torchvision:MNISTT", root=tmp_path)
    with pytest.raises(UsageError, match=r"torchvision:MNIST: root is needed"):
        load_domain("torchvision:MNIST")
    with pytest.raises(MissingInputError, match="download=True"):
        load_domain("torchvision:MNIST", root=tmp_path)
    for odd in ("FakeData", "CocoDetection", "EMNIST"):
        with pytest.raises(UsageError, match="from_datasets"):
            load_domain(f"torchvision:{odd}", root=tmp_path)
