"""Frozen pydantic models whose constructor speaks the project's own errors."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from freehold.errors import ConfigError


class Settings(BaseModel):
    """Base of all option models: frozen, unknown fields refused, no NaN, defaults held to their ranges.

    ``Rotate(degree=30)`` raises a :class:`~freehold.errors.ConfigError` with the nearest field name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise config_error(error, type(self), where=type(self).__name__) from None

    # Nested models are then built without calling __init__: the outermost, which knows the path, reports.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]


def nearest(name: str, options: Iterable[str]) -> str:
    """A hint naming the closest option, or all of them when none is close."""
    options = sorted(options)
    close = difflib.get_close_matches(name, options, n=1)
    return f"did you mean {close[0]!r}?" if close else "one of: " + ", ".join(options)


def config_error(error: ValidationError, model: type[BaseModel], *, where: str = "") -> ConfigError:
    """The first fault of a pydantic validation as one of ours, with the nearest field name.

    An unknown key goes first: where one is misspelt, the right one is missing as well.
    """
    faults = error.errors(include_url=False)
    fault = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    path = ".".join(str(part) for part in (where, *fault["loc"]) if str(part))
    if fault["type"] == "extra_forbidden":
        owner = _model_at(model, fault["loc"][:-1])
        hint = nearest(str(fault["loc"][-1]), owner.model_fields) if owner else ""
        return ConfigError("unknown key", where=path, fix=hint)
    message = fault["msg"].removeprefix("Value error, ")
    shown = "" if fault["type"] == "missing" else f", got {fault['input']!r:.60}"
    return ConfigError(message[0].lower() + message[1:] + shown, where=path)


def _model_at(model: type[BaseModel], path: tuple[str | int, ...]) -> type[BaseModel] | None:
    """The model that a path of field names leads to; numbers are places in a list of models."""
    for part in path:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        inside = _models_in(field.annotation) if field else []
        if len(inside) != 1:
            return None
        model = inside[0]
    return model


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Every model class that an annotation such as ``tuple[Source, ...] | None`` mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]
