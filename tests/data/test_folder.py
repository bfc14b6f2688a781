from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from freehold.data import load_domain
from freehold.errors import DataError, MissingInputError


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Path]:
    """Folders of PNG files whose red level is 10 * class + number; names are created in reverse order."""

    def make(
        *tops: str, classes: tuple[str, ...] = ("ant", "bee"), count: int = 10, size: tuple[int, int] = (6, 4)
    ) -> Path:
        root = tmp_path / "tree"
        for top in tops or ("",):
            for label in reversed(range(len(classes))):
                folder = root / top / classes[label]
                folder.mkdir(parents=True)
                for number in reversed(range(count)):
                    image = Image.new("RGB", size, (20 * label + number, 0, 0))
                    image.save(folder / f"{number:02d}.png")
        return root

    return make


def test_one_folder_a_class_is_split_and_recorded(tree):
    root = tree()
    (root / "ant" / "notes.txt").write_text("not an image")
    (root / ".cache").mkdir()
    domain = load_domain(f"folder:{root}")
    assert domain.name == "tree"
    assert domain.classes == ("ant", "bee")
    assert {k: len(s) for k, s in domain.splits().items()} == {"train": 16, "val": 2, "test": 2}
    reds = [split.images[:, 0, 0, 0] for split in domain.splits().values()]
    assert sorted(torch.cat(reds).tolist()) == [*range(10), *range(20, 30)]
    for red, split in zip(reds, domain.splits().values(), strict=True):
        assert torch.equal(red // 20, split.labels)
    assert "80 %" in domain.record["splits"]["train"]
    assert domain.train.images.shape[1:] == (3, 4, 6)


def test_stated_splits_are_kept_and_val_is_carved_if_absent(tree):
    three = load_domain(f"folder:{tree('train', 'val', 'test')}")
    assert {k: len(s) for k, s in three.splits().items()} == {"train": 20, "val": 20, "test": 20}


def test_val_is_carved_from_train(tree):
    two = load_domain(f"folder:{tree('train', 'test')}", val_fraction=0.3)
    assert {k: len(s) for k, s in two.splits().items()} == {"train": 14, "val": 6, "test": 20}
    assert two.val.labels.bincount().tolist() == [3, 3]


def test_a_class_may_be_called_train(tree):
    assert load_domain(f"folder:{tree(classes=('plane', 'train'))}").classes == ("plane", "train")


def test_class_numbers_follow_names_and_numbers_their_value(tree):
    assert load_domain(f"folder:{tree(classes=('10', '9', '1'))}").classes == ("1", "9", "10")


def test_an_empty_class_folder_is_a_class_that_does_not_occur(tree):
    root = tree()
    (root / "ape").mkdir()
    domain = load_domain(f"folder:{root}")
    assert domain.classes == ("ant", "ape", "bee")
    assert domain.train.labels.unique().tolist() == [0, 2]


def test_grey_files_stay_grey_and_mixed_ones_become_rgb(tree):
    root = tree(count=6)
    for file in root.rglob("*.png"):
        Image.open(file).convert("L").save(file)
    assert load_domain(f"folder:{root}").train.images.shape[1] == 1
    Image.new("RGBA", (6, 4), (9, 8, 7, 0)).save(root / "ant" / "00.png")
    mixed = load_domain(f"folder:{root}")
    images = torch.cat([split.images for split in mixed.splits().values()])
    assert any(image[:, 0, 0].tolist() == [9, 8, 7] for image in images)


def test_camera_orientation_is_applied(tree):
    root = tree()
    turned = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(6, 4)).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise
    turned.save(root / "ant" / "00.png", exif=exif)
    images = torch.cat([split.images for split in load_domain(f"folder:{root}").splits().values()])
    expected = np.rot90(np.arange(24, dtype=np.uint8).reshape(6, 4), -1)
    assert any(np.array_equal(image[0].numpy(), expected) for image in images)


def test_different_sizes_need_an_image_size(tree):
    root = tree()
    Image.new("RGB", (9, 5)).save(root / "bee" / "03.png")
    with pytest.raises(DataError, match=r"is \dx\d pixels but .* is \dx\d .*pass image_size"):
        load_domain(f"folder:{root}")
    assert load_domain(f"folder:{root}", image_size=12).train.images.shape == (16, 3, 12, 12)


def test_limit_decodes_no_more_than_it_needs(tree):
    root = tree("train", "test", count=20)
    domain = load_domain(f"folder:{root}", limit=4)
    assert [len(split) for split in domain.splits().values()] == [4, 4, 4]
    assert domain.train.labels.bincount().tolist() == [2, 2]


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n truncated", b"GIF89a"])
def test_a_corrupt_image_is_named(tree, content):
    root = tree()
    (root / "bee" / "04.png").write_bytes(content)
    with pytest.raises(
        DataError, match=r"bee/04\.png: not a readable image: .*\(replace or remove the file\)"
    ):
        load_domain(f"folder:{root}")


def test_a_truncated_and_a_sixteen_bit_image_are_named(tree):
    root = tree(size=(60, 40))
    file = root / "ant" / "02.png"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"ant/02\.png"):
        load_domain(f"folder:{root}")
    Image.fromarray(np.full((40, 60), 60000, np.uint16)).save(file)
    with pytest.raises(DataError, match=r"ant/02\.png: image of mode I;16 is not 8 bit"):
        load_domain(f"folder:{root}")


def test_layouts_that_make_no_domain(tree, tmp_path):
    with pytest.raises(MissingInputError, match="no such folder"):
        load_domain(f"folder:{tmp_path / 'gone'}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="0 class folders"):
        load_domain(f"folder:{tmp_path / 'empty'}")
    root = tree("train", "val")
    with pytest.raises(DataError, match="a train folder but no test folder"):
        load_domain(f"folder:{root}")
    for name in ("ant", "cow"):
        (root / "test" / name).mkdir(parents=True)
    with pytest.raises(DataError, match=r"test/cow: class folder that train does not have"):
        load_domain(f"folder:{root}")
    (root / "test" / "cow").rmdir()
    with pytest.raises(DataError, match="no image files for the test split"):
        load_domain(f"folder:{root}")
