"""``folder:PATH``: one folder of image files a class, with or without train, val and test above them."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from freehold.data.carve import cap, carve
from freehold.data.domain import Domain, Split
from freehold.data.pixels import read_image, stack
from freehold.errors import DataError, MissingInputError
from freehold.seeds import generator

_SPLITS = ("train", "val", "test")
_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}
_HELD_OUT = 0.1  # share of val and of test where the folder states no split
_LAYOUT = "expected PATH/CLASS/*.png or PATH/{train,val,test}/CLASS/*.png"


def load_folder(
    path: Path,
    *,
    name: str,
    size: tuple[int, int] | None = None,
    seed: int = 0,
    val_fraction: float = 0.1,
    limit: int | None = None,
) -> Domain:
    """Image files as a domain; only the files of ``limit`` images a split are decoded.

    ``PATH/{train,test}/CLASS/*`` keeps the stated split, with ``val`` or a stratified ``val_fraction`` of
    train; ``PATH/CLASS/*`` is split 80/10/10, stratified and seeded. Class numbers follow the sorted folder
    names (by value if all are numbers), never the order of the file system. An empty class folder counts
    as a class that does not occur.

    Raises:
        MissingInputError: no such folder.
        DataError: another layout, a file that is no image, or different sizes without ``size``.
    """
    if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises on impossible names
        raise MissingInputError("no such folder", where=str(path), fix="check the path after folder:")
    tops = {entry.name for entry in _folders(path)}
    stated = "train" in tops and tops <= set(_SPLITS)
    if stated and "test" not in tops:
        raise DataError("there is a train folder but no test folder", where=str(path), fix=_LAYOUT)
    classes = _class_names(path / "train" if stated else path)
    files: dict[str, list[tuple[Path, int]]] = {}
    if stated:
        files = {key: _list_files(path / key, classes) for key in _SPLITS if key in tops}
        how = {key: f"files of {key}/" for key in files}
        if "val" not in files:
            files["val"], files["train"] = _carved(files["train"], (val_fraction,), seed)
            how["val"] = f"{val_fraction:.0%} of train/, stratified by class, seed {seed}"
            how["train"] = "files of train/ without val"
    else:
        fractions = (_HELD_OUT, _HELD_OUT)
        files["val"], files["test"], files["train"] = _carved(_list_files(path, classes), fractions, seed)
        drawn = f"of all files, stratified by class, seed {seed}"
        how = {"train": f"the other 80 % {drawn}", "val": f"10 % {drawn}", "test": f"10 % {drawn}"}
    decoded = {}
    for key, listed in files.items():
        if not listed:
            raise DataError(f"no image files for the {key} split", where=str(path), fix=_LAYOUT)
        rows = cap(_labels(listed), limit, generator(seed, "limit", key)).tolist()
        decoded[key] = [(file, label, _decode(file)) for file, label in (listed[row] for row in rows)]
    everything = [item for key in _SPLITS for item in decoded[key]]
    images = stack(
        [image for *_, image in everything], [str(file) for file, *_ in everything], size, str(path)
    )
    parts = torch.split(images, [len(decoded[key]) for key in _SPLITS])
    labels = {key: torch.tensor([label for _, label, _ in decoded[key]]) for key in _SPLITS}
    splits = {key: Split(part, labels[key]) for key, part in zip(_SPLITS, parts, strict=True)}
    return Domain(name, classes, **splits, record={"source": f"folder:{path}", "splits": how})


def _folders(path: Path) -> list[Path]:
    return [entry for entry in _entries(path) if entry.is_dir()]


def _entries(path: Path) -> list[Path]:
    """What the folder holds, sorted by name, without hidden entries."""
    try:
        return sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(
            f"cannot be listed: {error.strerror}", where=str(path), fix="check permissions"
        ) from None


def _class_names(path: Path) -> tuple[str, ...]:
    names = [entry.name for entry in _folders(path)]
    if len(names) < 2:
        raise DataError(f"{len(names)} class folders", where=str(path), fix=_LAYOUT)
    return tuple(sorted(names, key=int if all(n.isascii() and n.isdigit() for n in names) else str))


def _list_files(path: Path, classes: tuple[str, ...]) -> list[tuple[Path, int]]:
    """Image files with their class numbers, in the order of class and file name."""
    for folder in _folders(path):
        if folder.name not in classes:
            raise DataError(
                "class folder that train does not have", where=str(folder), fix="rename or remove it"
            )
    return [
        (file, label)
        for label, name in enumerate(classes)
        if (path / name).is_dir()
        for file in _entries(path / name)
        if file.suffix.lower() in _SUFFIXES
    ]


def _labels(files: list[tuple[Path, int]]) -> Tensor:
    return torch.tensor([label for _, label in files], dtype=torch.int64)


def _carved(
    files: list[tuple[Path, int]], fractions: tuple[float, ...], seed: int
) -> list[list[tuple[Path, int]]]:
    parts = carve(_labels(files), fractions, generator(seed, "val"))
    return [[files[row] for row in part.tolist()] for part in parts]


def _decode(file: Path) -> Tensor:
    from PIL import Image

    try:
        with Image.open(file) as image:
            image.load()
            return read_image(image, str(file))
    except DataError:
        raise
    except Exception as error:  # each format's decoder raises its own kinds
        raise DataError(
            f"not a readable image: {error}", where=str(file), fix="replace or remove the file"
        ) from None
