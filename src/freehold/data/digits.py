"""The embedded real data: scikit-learn's 1,797 handwritten digits, plain and on photographs."""

from __future__ import annotations

import torch
from torch import Tensor

from freehold.data.carve import carve
from freehold.data.domain import Domain, Split
from freehold.data.photographs import WIDTH, patches
from freehold.data.pixels import resize, to_uint8
from freehold.seeds import generator

_CLASSES = tuple(map(str, range(10)))
_SIDE = 32
_COPIES = 12  # photographs a train digit is drawn on; ours: 1,079 digits alone teach too little texture
# Ten bands of columns, interleaved so that all splits see all parts of the photographs.
_BAND = WIDTH // 10
_BANDS = {"train": (0, 1, 3, 5, 6, 8), "val": (2, 7), "test": (4, 9)}


def _rows_and_digits(seed: int) -> tuple[dict[str, Tensor], Split]:
    from sklearn import datasets

    bunch = datasets.load_digits()
    images = to_uint8(torch.from_numpy(bunch.images)[:, None] * (255 / 16))
    labels = torch.from_numpy(bunch.target).long()
    val, test, train = carve(labels, (0.2, 0.2), generator(seed, "digits", "split"))
    return {"train": train, "val": val, "test": test}, Split(images, labels)


def _how(seed: int) -> dict[str, str]:
    drawn = f"stratified by class, seed {seed}, the same digits in 'digits' and 'digits-m'"
    return {"train": f"the other 60 %, {drawn}", "val": f"20 %, {drawn}", "test": f"20 %, {drawn}"}


def load_digits(*, name: str = "digits", seed: int = 0) -> Domain:
    """1,797 digits, 8x8 grey, split 60/20/20."""
    rows, digits = _rows_and_digits(seed)
    record = {
        "source": "scikit-learn load_digits: 8x8 grey, levels 0..16 scaled to 0..255",
        "splits": _how(seed),
    }
    return Domain(name, _CLASSES, **{key: digits.take(index) for key, index in rows.items()}, record=record)


def load_digits_m(*, name: str = "digits-m", seed: int = 0) -> Domain:
    """The same digits at 32x32, absolute difference with random photograph patches, as MNIST-M was made."""
    rows, digits = _rows_and_digits(seed)
    splits = {}
    for key, index in rows.items():
        index = index.repeat(_COPIES) if key == "train" else index
        ink = resize(digits.images[index], (_SIDE, _SIDE)).short()
        columns = [(band * _BAND, (band + 1) * _BAND) for band in _BANDS[key]]
        ground = patches(
            len(index), (_SIDE, _SIDE), generator(seed, "digits-m", key), columns=columns
        ).short()
        splits[key] = Split((ground - ink).abs().to(torch.uint8), digits.labels[index])
    record = {
        "source": "scikit-learn load_digits, bilinear to 32x32, absolute difference per channel with random "
        "32x32 patches of scikit-learn's china.jpg and flower.jpg",
        "splits": _how(seed),
        "patches": {
            "rule": f"the photographs are cut in ten bands of {_BAND} columns; no patch leaves its band",
            "bands": {key: list(bands) for key, bands in _BANDS.items()},
            "patches_per_digit": {"train": _COPIES, "val": 1, "test": 1},
        },
    }
    return Domain(name, _CLASSES, **splits, record=record)
