"""One configuration says everything about a run: a TOML file, overrides of single keys, or Python.

Relative paths are resolved against the working directory, wherever the file lies.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SerializeAsAny, ValidationError, field_validator, model_validator

from freehold.artifacts import as_toml
from freehold.data.domain import InputSpec
from freehold.errors import ConfigError, MissingInputError, UsageError
from freehold.metrics.claims import Claims
from freehold.plugin import find
from freehold.protection import Protection
from freehold.settings import Settings, config_error
from freehold.training.classifier import Supervised
from freehold.training.run import Execution, Run

Job = Literal["train", "protect", "watermark"]
_UNSEEN = {"threads", "checkpoint_seconds", "trackers"}  # of [train]: how a run goes, not what it computes


class ModelSection(Settings):
    """``[model]``: an architecture, weights, or both; a run directory of ``freehold train`` gives both."""

    uri: str | None = Field(
        None, description="convnet, vgg11, resnet20, timm:NAME, torchvision:NAME, pkg.mod:factory"
    )
    weights: str | None = Field(None, description="a safetensors file or a run directory")
    encoder: str | None = Field(
        None, description="a pretrained trunk of the architecture uri; train gives it a head"
    )
    allow_pickle: bool = Field(False, description="accept .pt and .pth, read with weights_only=True")
    options: dict[str, Any] = Field(default_factory=dict, description="passed to the constructor")

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.uri is None and self.weights is None:
            raise ValueError("give uri, such as 'convnet', or weights")
        return self


class Source(Settings):
    """One domain: its URI, and the name it goes by. A plain string is a URI."""

    uri: str
    name: str | None = Field(None, min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, data: Any) -> Any:
        return {"uri": data} if isinstance(data, str) else data


class DataSection(Settings):
    """``[data]``: domains, and what images are brought to; the model's recipe fills what is left out."""

    authorized: Source | None = Field(None, description="where the model works")
    unauthorized: tuple[Source, ...] = Field((), description="where it must not work")
    image_size: int | None = Field(
        None, ge=4, le=4096, description="side of the square images; 32 by default"
    )
    channels: Literal[1, 3] | None = Field(None, description="3 by default")
    mean: float | tuple[float, ...] | None = Field(None, description="of pixels in [0, 1]; 0.5 by default")
    std: float | tuple[float, ...] | None = Field(None, description="of pixels in [0, 1]; 0.5 by default")
    classes: int | None = Field(
        None, ge=2, description="number of classes, where labels alone do not show it"
    )
    val_fraction: float = Field(0.1, gt=0, le=0.5, description="of train, where there is no validation split")
    limit: int | None = Field(None, ge=2, description="at most this many images a split")
    seed: int = Field(0, ge=0, description="of splits and shifts")
    root: str | None = Field(None, description="folder of torchvision datasets")
    download: bool = Field(False, description="fetch torchvision datasets that are missing")

    @field_validator("unauthorized", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | Mapping) else value

    def input(self, recipe: InputSpec | None = None) -> InputSpec:
        """The model's input as stated here, else as its recipe says, else the defaults.

        Raises:
            ConfigError: what is stated contradicts the recipe, or itself.
        """
        given = {"size": self.image_size, "channels": self.channels, "mean": self.mean, "std": self.std}
        stated = {key: value for key, value in given.items() if value is not None}
        if recipe is None:
            return InputSpec(**stated)
        wanted = InputSpec(**{"size": recipe.size, "channels": recipe.channels, **stated})
        for key in stated:
            mine, theirs = getattr(wanted, key), getattr(recipe, key)
            if mine != theirs:
                where = "data.image_size" if key == "size" else f"data.{key}"
                raise ConfigError(
                    f"{mine} here, but the model was made for {theirs}", where=where, fix="leave it out"
                )
        return recipe


class TrainSection(Supervised, Execution):
    """``[train]``: how source models are trained, and on what machine everything runs."""


class Config(Settings):
    """Everything about a run; each key is a field of one of the sections."""

    seed: int = Field(0, ge=0, description="root of all randomness but that of the data")
    model: ModelSection
    data: DataSection
    train: TrainSection = TrainSection()
    method: SerializeAsAny[Protection] | None = None
    claims: Claims = Claims()

    @field_validator("method", mode="before")
    @classmethod
    def _registered(cls, value: Any) -> Any:
        """A table with the ``name`` of a registered method and its fields becomes that method."""
        if not isinstance(value, Mapping):
            return value
        fields = dict(value)
        name = fields.pop("name", None)
        if not isinstance(name, str):
            raise ConfigError("the method has no name", where="method.name", fix='for example name = "map"')
        try:
            kind = find(name)
        except UsageError as error:
            raise ConfigError(error.what, where="method.name", fix=error.fix) from None
        if not issubclass(kind, Protection):
            raise ConfigError(f"{name!r} protects nothing: it is an {kind.kind}", where="method.name")
        try:
            return kind.model_validate(fields)
        except ValidationError as error:
            raise config_error(error, kind, where="method") from None

    def run(self, directory: Path | None = None, *, progress: bool = True) -> Run:
        """Execution settings, seed and folder of a run."""
        settings = {key: getattr(self.train, key) for key in Execution.model_fields}
        return Run(**settings, seed=self.seed, directory=directory, progress=progress)

    def to_json(self) -> dict[str, Any]:
        """All keys with their values, defaults included and None left out; :func:`from_json` reads it."""
        data = self.model_dump(mode="json", exclude_none=True)
        if self.method is not None:
            data["method"] = {"name": self.method.name, **data["method"]}
        return data

    def to_toml(self) -> str:
        """The same as a TOML document."""
        return as_toml(self.to_json())

    def identity(self, job: Job) -> dict[str, Any]:
        """What the result of ``job`` depends on: equal identity, equal weights. Claims only judge it."""
        data = self.to_json()
        fields = set(TrainSection.model_fields if job == "train" else Execution.model_fields) - _UNSEEN
        data["train"] = {key: value for key, value in data["train"].items() if key in fields}
        for key in ("claims", "method") if job == "train" else ("claims",):
            data.pop(key, None)
        del data["data"]["download"], data["model"]["allow_pickle"]
        return {"job": job, **data}


def load_config(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a TOML file and change single keys.

    Args:
        path: the file; None starts from nothing.
        overrides: ``"data.limit=100"``; values are TOML, and what is no TOML value is taken as text.

    Raises:
        MissingInputError: the file cannot be read.
        ConfigError: it is no TOML, or a key is unknown, missing or out of range; says which.
    """
    return from_json(override(_read(Path(path)) if path is not None else {}, overrides))


def from_json(data: Mapping[str, Any]) -> Config:
    """A configuration from nested mappings.

    Raises:
        ConfigError: as :func:`load_config`.
    """
    try:
        json.dumps(data, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError):
        raise ConfigError(
            "a value is neither text, number, list nor table",
            where="configuration",
            fix="no dates, inf or nan",
        ) from None
    try:
        return Config.model_validate(dict(data))
    except ValidationError as error:
        raise config_error(error, Config) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MissingInputError(
            f"cannot be read: {error.strerror}", where=str(path), fix="check the path"
        ) from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, UnicodeDecodeError, numbers too long
        raise ConfigError(f"is no valid TOML: {error}", where=str(path)) from None


def override(data: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """``data``, its keys changed in place as ``section.key=value`` says.

    Raises:
        ConfigError: a change that is written in another way, or a section that is no table.
    """
    for change in changes:
        _override(data, change)
    return data


def _override(data: dict[str, Any], change: str) -> None:
    dotted, equals, text = change.partition("=")
    *path, last = dotted.strip().split(".")
    if not equals or not all((*path, last)):
        raise ConfigError("an override is written section.key=value", where=f"--set {change}")
    for depth, key in enumerate(path, 1):
        data = data.setdefault(key, {})
        if not isinstance(data, dict):
            raise ConfigError("is no table", where=".".join(path[:depth]), fix="it has no keys to set")
    data[last] = parse_value(text.strip())


def parse_value(text: str) -> Any:
    """A value as TOML writes it; what is no TOML value is taken as text."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return parsed["value"] if len(parsed) == 1 else text
