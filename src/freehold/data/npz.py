"""``npz:PATH``: one numpy archive with images and labels of train and test, and optionally val."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from freehold.data.carve import carve
from freehold.data.domain import Domain, Split, numbered_classes
from freehold.errors import DataError, MissingInputError
from freehold.seeds import generator


def load_npz(
    path: Path, *, name: str, classes: int | None = None, seed: int = 0, val_fraction: float = 0.1
) -> Domain:
    """The archive as a domain; no pickled object is ever read.

    Keys: ``{train,test}_images`` uint8 ``(N, H, W)`` or ``(N, H, W, C)``, ``{train,test}_labels`` integer
    ``(N,)``, optionally ``val_images`` and ``val_labels``, optionally ``class_names``. Without val a
    stratified ``val_fraction`` of train is set aside.

    Raises:
        MissingInputError: no such file.
        DataError: names the file, the key and what is expected of it.
    """
    archive = open_archive(path)
    with archive:
        keys = ["train", "test", *(["val"] if {"val_images", "val_labels"} & set(archive.files) else [])]
        given = {key: _read_split(archive, path, key) for key in keys}
        names = _class_names(archive, path)
    count = classes or len(names) or max(2, 1 + max(int(labels.max()) for _, labels in given.values()))
    if names and len(names) != count:
        raise DataError(f"{len(names)} names for {count} classes", where=f"{path}: class_names")
    for key, (_, labels) in given.items():
        if (top := int(labels.max())) >= count:
            raise DataError(
                f"label {top} is not below the number of classes, {count}",
                where=f"{path}: {key}_labels",
                fix="number classes from 0, or pass a larger classes=...",
            )
    how = {key: f"{key}_images of the file" for key in given}
    if "val" not in given:
        images, labels = given["train"]
        val, rest = carve(labels, (val_fraction,), generator(seed, "val"))
        given |= {"train": (images[rest], labels[rest]), "val": (images[val], labels[val])}
        how["val"] = f"{val_fraction:.0%} of train_images, stratified by class, seed {seed}"
        how["train"] = "train_images of the file without val"
    record = {"source": f"npz:{path}", "sha256": _digest(path), "splits": how}
    splits = {key: Split(images, labels) for key, (images, labels) in given.items()}
    return Domain(name, names or numbered_classes(count, str(path)), **splits, record=record)


def open_archive(path: Path) -> Any:
    """A numpy archive that holds no pickled object.

    Raises:
        MissingInputError: no such file.
        DataError: damaged, or no archive.
    """
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises on impossible names
        raise MissingInputError("no such file", where=str(path), fix="check the path after npz:")
    try:
        archive = np.load(path, allow_pickle=False)
    except Exception as error:  # numpy, zipfile and zlib raise a dozen kinds on damaged files
        raise DataError(f"not a readable npz archive: {error}", where=str(path), fix=_EXPECTED) from None
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise DataError("a single array, not an npz archive", where=str(path), fix=_EXPECTED)
    return archive


_EXPECTED = "write it with numpy.savez(path, train_images=, train_labels=, test_images=, test_labels=)"


def read_array(archive: Any, path: Path, key: str) -> np.ndarray[Any, Any]:
    """The array ``key``.

    Raises:
        DataError: missing, damaged or no array.
    """
    if key not in archive.files:
        raise DataError(
            f"key missing; the file has {', '.join(archive.files)}", where=f"{path}: {key}", fix=_EXPECTED
        )
    try:
        array = archive[key]
    except Exception as error:
        raise DataError(
            f"unreadable: {error}", where=f"{path}: {key}", fix="write or copy the file again"
        ) from None
    if not isinstance(array, np.ndarray):
        raise DataError("not an array", where=f"{path}: {key}", fix=_EXPECTED)
    return array


def _read_split(archive: Any, path: Path, split: str) -> tuple[Tensor, Tensor]:
    """Images as uint8 (N, C, H, W) and labels as int64 (N,)."""
    images, labels = (read_array(archive, path, f"{split}_{part}") for part in ("images", "labels"))
    where = f"{path}: {split}_images"
    if images.dtype != np.uint8:
        nan = images.dtype.kind == "f" and bool(np.isnan(images).any())
        raise DataError(
            f"expected uint8 levels 0..255, got {images.dtype}{' with NaN' if nan else ''}",
            where=where,
            fix="replace NaN, then scale, round and astype('uint8')"
            if nan
            else "scale, round and astype('uint8')",
        )
    if not (images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3))):
        hint = (
            "channels stand last: transpose(0, 2, 3, 1)"
            if images.ndim == 4 and images.shape[1] in (1, 3)
            else ""
        )
        raise DataError(f"expected (N, H, W) or (N, H, W, 1 or 3), got {images.shape}", where=where, fix=hint)
    if images.size == 0:
        raise DataError(
            f"no images: shape {images.shape}", where=where, fix="a split needs images of two classes"
        )
    where = f"{path}: {split}_labels"
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise DataError(
            f"expected integers of shape (N,), got {labels.dtype} {labels.shape}",
            where=where,
            fix="one class number per image",
        )
    if len(labels) != len(images):
        raise DataError(f"{len(labels)} labels for {len(images)} images", where=where)
    if labels.min() < 0 or labels.max() > np.iinfo(np.int64).max:
        raise DataError(
            f"labels run from {labels.min()} to {labels.max()}", where=where, fix="number classes from 0"
        )
    pixels = torch.from_numpy(images)
    pixels = pixels[:, None] if images.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()
    return pixels, torch.from_numpy(labels.astype(np.int64))


def _class_names(archive: Any, path: Path) -> tuple[str, ...]:
    if "class_names" not in archive.files:
        return ()
    names = read_array(archive, path, "class_names")
    if names.ndim != 1 or names.dtype.kind != "U":
        raise DataError(
            f"expected texts of shape (classes,), got {names.dtype} {names.shape}",
            where=f"{path}: class_names",
        )
    return tuple(map(str, names))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
