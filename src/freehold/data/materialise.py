"""Any torch dataset of ``(image, label)``, and torchvision's by name, read once into uint8 tensors."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from freehold.data.carve import cap, carve
from freehold.data.domain import Domain, Split, numbered_classes
from freehold.data.pixels import read_image, stack
from freehold.errors import DataError, MissingDependencyError, MissingInputError, UsageError
from freehold.seeds import generator
from freehold.settings import nearest


def domain_from_datasets(
    train: Any,
    test: Any = None,
    val: Any = None,
    *,
    name: str,
    classes: Sequence[str] | None = None,
    size: tuple[int, int] | None = None,
    seed: int = 0,
    val_fraction: float = 0.1,
    limit: int | None = None,
    source: str = "",
) -> Domain:
    """What :meth:`Domain.from_datasets` says; ``limit`` and ``source`` are for the loaders."""
    given = {key: data for key, data in (("train", train), ("val", val), ("test", test)) if data is not None}
    read = {key: _read(data, f"{name}: {key}", size, limit, seed) for key, data in given.items()}
    how = {key: f"the {key} dataset" for key in read}
    if missing := [key for key in ("val", "test") if key not in read]:
        images, labels = read["train"]
        *parts, rest = carve(labels, [val_fraction] * len(missing), generator(seed, "val"))
        for key, rows in zip(missing, parts, strict=True):
            read[key] = (images[rows], labels[rows])
            how[key] = f"{val_fraction:.0%} of the train dataset, stratified by class, seed {seed}"
        read["train"] = (images[rest], labels[rest])
        how["train"] = f"the train dataset without {' and '.join(missing)}"
    channels = max(images.shape[1] for images, _ in read.values())
    splits = {
        key: Split(images.expand(-1, channels, -1, -1), labels) for key, (images, labels) in read.items()
    }
    names = classes if classes is not None else getattr(train, "classes", None)
    if names is None:
        top = max(int(split.labels.max()) for split in splits.values())
        names = numbered_classes(max(2, top + 1), name)
    source = source or ", ".join(f"{key}: {type(data).__name__}" for key, data in given.items())
    return Domain(name, tuple(map(str, names)), **splits, record={"source": source, "splits": how})


def _read(
    dataset: Any, where: str, size: tuple[int, int] | None, limit: int | None, seed: int
) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, C, H, W) and labels int64 (N,) of the dataset, or of ``limit`` random rows of it."""
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise DataError(
            f"{type(dataset).__name__} has no length or no items",
            where=where,
            fix="give a map-style torch dataset of (image, label)",
        )
    if len(dataset) == 0:
        raise DataError("the dataset is empty", where=where)
    # Labels are not known before reading, so this cap cannot be stratified.
    rows = cap(torch.zeros(len(dataset), dtype=torch.int64), limit, generator(seed, "limit")).tolist()
    names = [f"item {row}" for row in rows]
    images, labels = zip(*(_item(dataset, row, f"{where}[{row}]") for row in rows), strict=True)
    return stack(images, names, size, where), torch.tensor(labels)


def _item(dataset: Any, row: int, where: str) -> tuple[Tensor, int]:
    try:
        item = dataset[row]
    except Exception as error:  # whatever the user's own code raises
        raise DataError(f"the dataset raised {type(error).__name__}: {error}", where=where) from error
    if not isinstance(item, Sequence) or len(item) < 2:
        raise DataError(f"expected (image, label), got {type(item).__name__}", where=where)
    try:
        label = operator.index(item[1])
    except TypeError:
        raise DataError(
            f"label {item[1]!r:.40} is no integer", where=where, fix="give the class number as int"
        ) from None
    if not 0 <= label < 2**63:
        raise DataError(f"label {label} is no class number", where=where, fix="number classes from 0")
    return read_image(item[0], where), label


def load_torchvision(
    dataset: str, *, root: str | Path | None, download: bool, classes: int | None, **options: Any
) -> Domain:
    """A dataset of torchvision with ``(root, train=)`` or ``(root, split=)``; options as above.

    Raises:
        UsageError: no such dataset, no ``root``, or a signature of another kind.
        MissingInputError: the files are not under ``root``.
    """
    from torchvision import datasets

    if dataset not in datasets.__all__:
        hint = nearest(
            dataset, [n for n in datasets.__all__ if dataset[:1].lower() == n[:1].lower()] or ["MNIST"]
        )
        raise UsageError(f"torchvision has no dataset {dataset!r}", where="torchvision:", fix=hint)
    if root is None:
        raise UsageError(
            "root is needed", where=f"torchvision:{dataset}", fix="pass root=FOLDER, maybe download=True"
        )
    kind = getattr(datasets, dataset)
    accepted = inspect.signature(kind).parameters
    by_hand = "build the datasets yourself and use Domain.from_datasets(train, test, name=...)"
    if "root" not in accepted or not {"train", "split"} & set(accepted):
        raise UsageError("has no train= or split= parameter", where=f"torchvision:{dataset}", fix=by_hand)
    if download and "download" not in accepted:
        raise UsageError(
            "cannot be downloaded", where=f"torchvision:{dataset}", fix=f"place its files in {root}"
        )

    def build(split: str) -> Any:
        choice = {"train": split == "train"} if "train" in accepted else {"split": split}
        more = {"download": True} if download else {}
        try:
            return kind(root, **choice, **more)
        except (RuntimeError, OSError) as error:
            fix = f"place the files in {root}, or pass download=True"
            raise MissingInputError(str(error), where=f"torchvision:{dataset}", fix=fix) from None
        except (TypeError, ValueError) as error:
            raise UsageError(str(error), where=f"torchvision:{dataset}", fix=by_hand) from None
        except ImportError as error:
            fix = f"pip install {error.name}" if error.name else ""
            raise MissingDependencyError(str(error), where=f"torchvision:{dataset}", fix=fix) from None
        except Exception as error:  # each dataset parses its files in its own way
            fault, fix = f"unreadable files: {error!r}", f"delete them from {root} and pass download=True"
            raise DataError(fault, where=f"torchvision:{dataset}", fix=fix) from None

    train, test, val = build("train"), build("test"), None
    if "train" not in accepted:
        try:
            val = build("val")
        except UsageError:
            val = None  # it has no such split: one is carved from train
    names = getattr(train, "classes", None)
    if names is None and classes is not None:
        names = numbered_classes(classes, f"torchvision:{dataset}")
    elif names is not None:
        # MNIST calls its classes "0 - zero", USPS and SVHN do not name theirs: the same digits must agree.
        names = [str(i) if str(n).startswith(f"{i} - ") else str(n) for i, n in enumerate(names)]
    return domain_from_datasets(train, test, val, classes=names, source=f"torchvision:{dataset}", **options)
