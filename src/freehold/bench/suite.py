"""A suite as its TOML file says it: methods, pairs of domains, models, attacks and seeds."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from freehold.config import ModelSection, Source
from freehold.errors import ConfigError, MissingInputError
from freehold.settings import Settings, config_error, nearest

_NOT_FIELDS = ("name", "label", "strong", "data")


class Choice(Settings):
    """One registered plug-in, or a group of them, as a block asks for it.

    In a file it is its name, or a table of the name, what is said below, and fields of the plug-in.
    """

    name: str
    label: str = Field("", description="what tables call it; the name by default")
    strong: bool = Field(False, description="of attacks: start from the strong setting")
    data: Literal["authorized", "unauthorized"] | None = Field(
        None, description="of attacks: whose images; by default what the attack is made for"
    )
    fields: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, data: Any) -> Any:
        if isinstance(data, str):
            return {"name": data}
        if isinstance(data, Mapping) and "fields" not in data:
            own = {key: value for key, value in data.items() if key in _NOT_FIELDS}
            return {**own, "fields": {key: value for key, value in data.items() if key not in _NOT_FIELDS}}
        return data


class Pair(Settings):
    """Where a model works, and where it must not; a plain text is a URI."""

    authorized: Source
    unauthorized: tuple[Source, ...] = ()

    @field_validator("unauthorized", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | Mapping) else value


class Curves(Settings):
    """Learning curves on the unauthorized domain: what the model is worth to who fine-tunes it."""

    attackers: tuple[str, ...] = Field(("regrow",), min_length=1, description="of freehold.attacks.attacker")
    sizes: tuple[int, ...] = Field((10, 50, 200), min_length=2, description="labelled images, ascending")
    budget: str = Field("equal", description="the fine-tuning recipe")


class Block(Settings):
    """Every method on every pair and model, under every trial of the block."""

    name: str = Field(min_length=1)
    methods: tuple[Choice, ...] = Field(
        min_length=1, description="names, tables, or the groups authorization and ownership"
    )
    pairs: tuple[Pair, ...] = Field(min_length=1)
    models: tuple[ModelSection, ...] = Field((ModelSection(uri="convnet"),), min_length=1)
    attacks: tuple[Choice, ...] = Field(
        (), description="names, tables, or the groups all (published settings) and strong"
    )
    curves: Curves | None = None
    forgeries: tuple[str, ...] = Field((), description="false claims by name, or the group all")
    methods_at_most: dict[str, int | float] = Field(
        default_factory=dict, description="largest value of a field in every method that has it"
    )
    attacks_at_most: dict[str, int | float] = Field(
        default_factory=dict, description="the same of attacks; what it shortens is shown as shortened"
    )
    data: dict[str, Any] = Field(default_factory=dict, description="keys of [data] that differ here")
    train: dict[str, Any] = Field(default_factory=dict, description="keys of [train] that differ here")

    @field_validator("methods", "attacks", "pairs", "models", "forgeries", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | Mapping) else value


class Needs(Settings):
    """What a cell takes of a machine; a cluster places cells by it."""

    cpus: float = Field(1.0, gt=0, le=1024, json_schema_extra={"unit": "cores"})
    gpus: float = Field(0.0, ge=0, le=64, json_schema_extra={"unit": "GPUs"})


class Suite(Settings):
    """A benchmark: cells are the product of a block's lists and the seeds, over all blocks.

    ``[data]`` and ``[train]`` are those of a configuration, without domains. Unless stated otherwise cells
    run on one thread of the CPU, where equal cells give equal bits.
    """

    title: str = Field(min_length=1)
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    data: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)
    needs: Needs = Needs()
    block: tuple[Block, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if min(self.seeds) < 0 or len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds are different and not negative")
        names = [block.name for block in self.block]
        if len(set(names)) < len(names):
            raise ValueError("two blocks have one name")
        return self


def shipped() -> dict[str, Path]:
    """The suites that come with the package, by name."""
    folder = Path(str(files("freehold.bench") / "suites"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_suite(name: str | Path) -> Suite:
    """Read a suite.

    Args:
        name: of a shipped suite, or the path of a TOML file.

    Raises:
        MissingInputError: no such suite, or no such file.
        ConfigError: it is no TOML, or a key is unknown, missing or out of range.
    """
    path = shipped().get(str(name), Path(name))
    if path.suffix != ".toml" and not path.exists():
        raise MissingInputError(
            f"there is no suite {str(name)!r}", where="suite", fix=nearest(str(name), shipped())
        )
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MissingInputError(
            f"cannot be read: {error.strerror}", where=str(path), fix="check the path"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"is no valid TOML: {error}", where=str(path)) from None
    try:
        return Suite.model_validate(data)
    except ValidationError as error:
        raise config_error(error, Suite) from None
