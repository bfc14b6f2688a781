"""JSON from strangers: bounded, unambiguous, and read into a model that knows every field."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from freehold.errors import ArtifactError
from freehold.settings import config_error

LARGEST = 1 << 20  # bytes of one JSON text
DEEPEST = 32  # levels of lists and objects
_DIGITS = 40  # of one number

Model = TypeVar("Model", bound=BaseModel)


def strict_json(data: bytes, *, where: str, largest: int = LARGEST) -> Any:
    """The value of a JSON text in UTF-8.

    Args:
        data: the text.
        where: what errors call it.
        largest: bytes it may have.

    Raises:
        ArtifactError: too large or too deep, not UTF-8, not JSON, a key that stands twice, NaN, or a number
            of too many digits.
    """
    if len(data) > largest:
        raise ArtifactError(f"has more than {largest} bytes", where=where)
    try:
        text = data.decode("utf-8", "strict")
        if _depth(text) > DEEPEST:
            raise ValueError(f"more than {DEEPEST} levels deep")
        return json.loads(
            text,
            object_pairs_hook=once,
            parse_constant=_refuse,
            parse_int=lambda digits: int(_short(digits)),
            parse_float=lambda digits: _finite(_short(digits)),
        )
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"is no JSON that is accepted here: {error!s:.120}", where=where) from None


def parsed(model: type[Model], data: bytes, *, where: str, largest: int = LARGEST) -> Model:
    """``data`` as ``model``: no unknown field, no value of another type.

    Raises:
        ArtifactError: as :func:`strict_json`, or the fields are not those of ``model``.
    """
    strict_json(data, where=where, largest=largest)
    try:
        return model.model_validate_json(data, strict=True)
    except ValidationError as error:
        fault = config_error(error, model)
        place = f"{where}: {fault.where}" if fault.where else where
        raise ArtifactError(fault.what[:300], where=place, fix=fault.fix) from None


def canonical(data: Any) -> bytes:
    """The one text of JSON-able ``data``: keys sorted, no blanks, ASCII only."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _depth(text: str) -> int:
    """Most brackets that are open at once; those in strings count as well, which only ever refuses more."""
    deepest = depth = 0
    for character in text:
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON: readers differ in which of two equal keys they take, so each could see another.

    Raises:
        ValueError: a key stands twice.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _short(digits: str) -> str:
    if len(digits) > _DIGITS:
        raise ValueError("a number of too many digits")
    return digits


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise ValueError("a number that is too large")
    return value
