"""``load_domain``: a domain by one line of text, so that configurations and commands can name their data."""

from __future__ import annotations

import os
from pathlib import Path

from freehold.data.carve import cap
from freehold.data.digits import load_digits, load_digits_m
from freehold.data.domain import Domain, InputSpec, Split
from freehold.data.folder import load_folder
from freehold.data.materialise import load_torchvision
from freehold.data.npz import load_npz
from freehold.data.pixels import resize
from freehold.data.points import load_points
from freehold.data.shifts import parse_shift
from freehold.errors import DataError, UsageError
from freehold.seeds import generator
from freehold.settings import nearest

_EMBEDDED = ("digits", "digits-m")
_NAMED = {"npz": "PATH", "points": "PATH", "folder": "PATH", "torchvision": "NAME"}


def load_domain(
    uri: str,
    *,
    name: str | None = None,
    image_size: int | None = None,
    classes: int | None = None,
    seed: int = 0,
    val_fraction: float = 0.1,
    root: str | Path | None = None,
    download: bool = False,
    limit: int | None = None,
) -> Domain:
    """Load labelled images and, if the text goes on, see them through shifts.

    Args:
        uri: ``digits`` and ``digits-m`` (embedded), ``npz:PATH``, ``points:PATH`` (clouds), ``folder:PATH``
            or ``torchvision:NAME``; shifts may follow, as in ``"digits | rotate=30 | blur=1.5"``.
        name: what the domain is called; by default its file, folder or source, with its shifts.
        image_size: resize to this square, 4..4096 pixels. Without it sizes stay; a method resizes anyway.
        classes: number of classes, where labels alone do not show it.
        seed: of every split, cap, patch and shift.
        val_fraction: share of train set aside where the source has no validation split, in (0, 0.5].
        root: folder of a ``torchvision:`` dataset.
        download: fetch it there if it is missing.
        limit: at most this many images a split: a seeded sample, stratified where labels can be had first.

    Raises:
        UsageError: an unknown source or shift, or arguments that make no sense.
        MissingInputError: the file, folder or dataset is not there.
        DataError: what is there cannot be used; says which file and key, and how to mend it.
    """
    if not isinstance(uri, str):
        raise UsageError(
            f"expected a text, got {type(uri).__name__}", where="uri", fix="for example 'digits'"
        )
    base, *steps = (part.strip() for part in uri.split("|"))
    source, rest = _parse(base)
    shifts = [parse_shift(step) for step in steps]
    size = None if image_size is None else InputSpec(size=image_size).size
    if source == "npz":
        path = Path(rest)
        domain = load_npz(path, name=name or path.stem, classes=classes, seed=seed, val_fraction=val_fraction)
    elif source == "points":
        path = Path(rest)
        domain = load_points(path, name=name or path.stem, seed=seed, val_fraction=val_fraction)
    elif source == "folder":
        path = Path(rest)
        label = name or path.absolute().name or rest
        domain = load_folder(path, name=label, size=size, seed=seed, val_fraction=val_fraction, limit=limit)
    elif source == "torchvision":
        domain = load_torchvision(
            rest,
            root=root,
            download=download,
            name=name or rest.lower(),
            classes=classes,
            size=size,
            seed=seed,
            val_fraction=val_fraction,
            limit=limit,
        )
    else:
        domain = (load_digits_m if source == "digits-m" else load_digits)(name=name or source, seed=seed)
    if classes is not None and domain.num_classes != classes:
        raise DataError(
            f"it has {domain.num_classes} classes, not {classes}", where=base, fix="leave out classes=..."
        )
    if limit is not None:
        domain = _capped(domain, limit, seed)
    if size is not None:
        domain = _resized(domain, size)
    return domain.shifted(*shifts, seed=seed, name=name) if shifts else domain


def _parse(base: str) -> tuple[str, str]:
    """``"npz:a.npz"`` to ``("npz", "a.npz")``; the embedded sources have no second part."""
    source, _, rest = base.partition(":")
    if base in _EMBEDDED or (source in _NAMED and rest):
        return source, rest
    if source in _NAMED:
        hint = f"write {source}:{_NAMED[source]}"
    elif base.endswith(".npz") and ":" not in base:
        hint = f"did you mean 'npz:{base}'?"
    elif os.path.isdir(base):  # noqa: PTH112 - Path.is_dir raises on impossible names
        hint = f"did you mean 'folder:{base}'?"
    else:
        hint = nearest(source, (*_EMBEDDED, *_NAMED))
    raise UsageError(f"unknown source {base!r}", where="uri", fix=hint)


def _capped(domain: Domain, limit: int, seed: int) -> Domain:
    splits = {
        key: split.take(cap(split.labels, limit, generator(seed, "limit", key)))
        for key, split in domain.splits().items()
    }
    return domain.with_splits(
        splits, record={"limit": f"at most {limit} images a split, sampled with seed {seed}"}
    )


def _resized(domain: Domain, size: tuple[int, int]) -> Domain:
    splits = {key: Split(resize(split.images, size), split.labels) for key, split in domain.splits().items()}
    return domain.with_splits(splits)
