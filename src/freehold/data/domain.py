"""What a method learns from: images of one origin (`Domain`), and all it is given (`Domains`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from freehold.data.inputs import InputSpec
from freehold.data.pixels import chunks
from freehold.data.split import Split, require
from freehold.errors import DataError, UsageError
from freehold.seeds import generator

__all__ = ["Domain", "Domains", "InputSpec", "Split"]

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    from freehold.data.shifts import Shift


@dataclass(frozen=True, eq=False)
class Domain:
    """Labelled images of one origin in three disjoint splits.

    Args:
        name: any text; shown, never interpreted.
        classes: the names of classes 0, 1, ...; at least two, no duplicates. Not all need to occur.
        train: to learn from.
        val: to choose on; images of the shape of train's.
        test: to report on; likewise.
        record: JSON-able account of the source and how the splits were made; sizes and image shape are
            added here.

    Raises:
        DataError: names the field or split that does not fit.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    record: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        named = isinstance(self.name, str) and self.name != ""
        require(named, f"a domain needs a name, got {self.name!r}", "name", "give a text that is not empty")
        where = f"{self.name}: classes"
        texts = isinstance(self.classes, list | tuple) and all(isinstance(c, str) for c in self.classes)
        require(texts and len(self.classes) > 1, "expected the names of two or more classes", where)
        require(len(set(self.classes)) == len(self.classes), "a class name occurs twice", where)
        object.__setattr__(self, "classes", tuple(self.classes))
        for key, split in self.splits().items():
            self._check_split(f"{self.name}: {key}", split)
        sizes = {key: len(split) for key, split in self.splits().items()}
        facts = {"sizes": sizes, "image_shape": list(self.train.images.shape[1:])}
        try:
            object.__setattr__(self, "record", {**self.record, **facts})
            json.dumps(self.record, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise DataError(f"the record is not JSON-able: {error}", where=f"{self.name}: record") from None

    def _check_split(self, where: str, split: Split) -> None:
        require(isinstance(split, Split), f"expected a Split, got {type(split).__name__}", where)
        least, top = int(split.labels.min()), int(split.labels.max())
        fix = "number classes from 0, or raise the number of classes"
        require(top < self.num_classes, f"label {top} but only {self.num_classes} classes", where, fix)
        fix = "a split needs images of at least two classes"
        require(least < top, f"all {len(split)} labels are of class {top}", where, fix)
        mine, theirs = tuple(split.images.shape[1:]), tuple(self.train.images.shape[1:])
        fault = f"images are {mine} but those of train are {theirs}"
        require(mine == theirs, fault, where, "bring all splits to one shape")

    @property
    def num_classes(self) -> int:
        """How many classes a label can name."""
        return len(self.classes)

    def splits(self) -> dict[str, Split]:
        """The three splits by name, in the order train, val, test."""
        return {"train": self.train, "val": self.val, "test": self.test}

    def shifted(self, *shifts: Shift, seed: int = 0, name: str | None = None) -> Domain:
        """This domain seen through ``shifts``, applied in order; labels, split and sizes stay.

        Each split and shift draws from a stream of its own. The default name is ``"mnist+rotate(30)"``.
        """
        if not shifts:
            raise UsageError("no shift given", where="shifted", fix="for example shifted(Rotate(degrees=30))")
        splits = {}
        for key, split in self.splits().items():
            images = split.images
            for number, shift in enumerate(shifts):
                stream = generator(seed, "shift", key, number, shift.name)
                images = torch.cat([shift(chunk, stream) for chunk in chunks(images)])
            splits[key] = Split(images, split.labels)
        steps = [{"shift": s.name, **s.model_dump(mode="json"), "seed": seed} for s in shifts]
        record = {"shifts": [*self.record.get("shifts", ()), *steps]}
        return self.with_splits(splits, name=name or "+".join([self.name, *map(str, shifts)]), record=record)

    def with_splits(
        self, splits: Mapping[str, Split], *, name: str | None = None, record: Mapping[str, Any] | None = None
    ) -> Domain:
        """This domain with other ``train``, ``val`` and ``test``; ``record`` adds to what is recorded."""
        return Domain(name or self.name, self.classes, **splits, record={**self.record, **(record or {})})

    @classmethod
    def from_datasets(
        cls,
        train: Dataset[Any],
        test: Dataset[Any] | None = None,
        val: Dataset[Any] | None = None,
        *,
        name: str,
        classes: Sequence[str] | None = None,
        image_size: int | None = None,
        seed: int = 0,
        val_fraction: float = 0.1,
    ) -> Domain:
        """A domain from any sized torch datasets of ``(image, label)``, read once into uint8 tensors.

        Images may be PIL, uint8 or [0, 1] float tensors ``(C, H, W)``, or numpy ``(H, W[, C])``.

        Args:
            train: to learn from.
            test: to report on; without it a stratified part of ``train`` is set aside.
            val: to choose on; likewise.
            name: of the domain.
            classes: class names; by default ``train.classes`` if it has them, else the numbers.
            image_size: resize to this square; needed when sizes differ.
            seed: of the parts set aside.
            val_fraction: the size of each such part, in (0, 0.5] of ``train``.

        Raises:
            DataError: an item that is not an image with an integer label, NaN, or out of range.
        """
        from freehold.data.materialise import domain_from_datasets

        return domain_from_datasets(
            train,
            test,
            val,
            name=name,
            classes=classes,
            size=None if image_size is None else InputSpec(size=image_size).size,
            seed=seed,
            val_fraction=val_fraction,
        )


def numbered_classes(count: int, where: str) -> tuple[str, ...]:
    """The names ``"0"``, ``"1"``, ... of ``count`` classes.

    Raises:
        DataError: so many that a label must be a mistake; their names would fill the memory.
    """
    require(count <= 100_000, f"{count} classes are beyond reason", where, "number classes from 0 upwards")
    return tuple(map(str, range(count)))


@dataclass(frozen=True)
class Domains:
    """What a method receives: where the model may work, where it must not, and the model's input.

    Args:
        authorized: the domain to keep; ``None`` for methods that work without it.
        unauthorized: the domains to close, in any sequence; kept as a tuple.
        input: what images are brought to before the model sees them.

    Raises:
        DataError: something that is no domain, or a repeated name.
    """

    authorized: Domain | None = None
    unauthorized: Sequence[Domain] = ()
    input: InputSpec = field(default_factory=InputSpec)

    def __post_init__(self) -> None:
        given = self.unauthorized
        given = (given,) if isinstance(given, Domain) else given
        require(isinstance(given, list | tuple), "expected a list of domains", "unauthorized")
        object.__setattr__(self, "unauthorized", tuple(given))
        kind = type(self.input).__name__
        require(isinstance(self.input, InputSpec), f"expected an InputSpec, got {kind}", "input")
        everyone = self.all()
        for domain in everyone:
            kind = type(domain).__name__
            require(
                isinstance(domain, Domain), f"expected a Domain, got {kind}", "domains", "see load_domain"
            )
        names = [domain.name for domain in everyone]
        for name in names:
            fix = "name one: load_domain(uri, name=...), or {uri = ..., name = ...} in TOML"
            require(names.count(name) == 1, f"two domains are called {name!r}", "domains", fix)

    @property
    def num_classes(self) -> int:
        """How many classes the model knows: those of the authorized, or else of the first domain.

        Raises:
            DataError: there is no domain.
        """
        require(bool(self.all()), "no domain given", "domains", "give an authorized or unauthorized one")
        return self.all()[0].num_classes

    def mismatch(self) -> DataError | None:
        """The first difference between the classes of two domains, if any.

        A difference in their order alone would look like perfect protection, so names must agree one by one.
        """
        everyone = self.all()
        faults = (_different_classes(everyone[0], other) for other in everyone[1:])
        return next(filter(None, faults), None)

    def comparable(self) -> Domains:
        """Without the domains whose classes are not those of the first: accuracy means nothing on them."""
        first = next(iter(self.all()), None)
        same = [d for d in self.unauthorized if first is None or _different_classes(first, d) is None]
        return self if len(same) == len(self.unauthorized) else Domains(self.authorized, same, self.input)

    def all(self) -> tuple[Domain, ...]:
        """The authorized domain, if any, then the unauthorized ones in order."""
        return (*((self.authorized,) if self.authorized is not None else ()), *self.unauthorized)


def _different_classes(first: Domain, other: Domain) -> DataError | None:
    where = f"domains {first.name!r} and {other.name!r}"
    if first.num_classes != other.num_classes:
        counts = f"{first.num_classes} classes against {other.num_classes}"
        return DataError(counts, where=where, fix="see classes=... of load_domain")
    for number, (mine, theirs) in enumerate(zip(first.classes, other.classes, strict=True)):
        if mine != theirs:
            fault = f"class {number} is {mine!r} in one, {theirs!r} in the other"
            return DataError(fault, where=where, fix="give all domains the same classes in the same order")
    return None
