"""From a configuration to what it names: domains, model, recipe, and the identity of a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from torch import nn

from freehold.artifacts import file_hash, fingerprint, verify_run
from freehold.config import Config, Job, Source
from freehold.data.domain import Domain, Domains, InputSpec
from freehold.data.sources import load_domain
from freehold.errors import ConfigError, FreeholdError, MissingInputError
from freehold.models.checkpoint import MODEL, RECIPE, Recipe, load_checkpoint
from freehold.models.zoo import ModelSpec
from freehold.protection import versions


def is_first() -> bool:
    """Whether this is the only or the first process of a distributed launch, the one that writes."""
    return os.environ.get("RANK", "0") == "0"


def identify(config: Config, job: Job) -> dict[str, Any]:
    """The configuration's identity with the content of the weights in the place of their path.

    Raises:
        MissingInputError: the weights are not there.
    """
    identity = config.identity(job)
    for key in ("weights", "encoder"):
        if (given := getattr(config.model, key)) is None:
            continue
        path = Path(given)
        file = path / MODEL if path.is_dir() else path
        try:
            identity["model"][key] = f"sha256:{file_hash(file)}"
        except OSError as error:
            raise MissingInputError(
                f"cannot be read: {error.strerror}", where=f"model.{key}: {file}", fix="check the path"
            ) from None
    return identity


def default_directory(config: Config, job: Job) -> Path:
    """Where a run goes that was given no name: equal configurations meet in one folder."""
    return Path("runs") / f"{job}-{fingerprint(identify(config, job))[:8]}"


def header(config: Config, identity: dict[str, Any]) -> dict[str, Any]:
    """What ``run.json`` says of every run."""
    return {
        "job": identity["job"],
        "config": config.to_json(),
        "config_hash": fingerprint(identity),
        "seed": config.seed,
        "versions": versions(),
    }


def assemble(config: Config, known: Recipe | None = None) -> tuple[nn.Module, Recipe, Domains]:
    """Load every domain and the model, and see that they belong together.

    Args:
        config: names them.
        known: the recipe of weights that are a plain file, in the place of ``model.uri``.

    Raises:
        FreeholdError: names the key, file or domain that cannot be used.
    """
    path = Path(config.model.weights or "")
    if config.model.weights is not None and path.is_dir():
        verify_run(path)
        model, recipe = load_shipped(path, config.model.uri)
        domains = load_domains(config, config.data.input(recipe.input))
        if domains.all():
            _same_classes(recipe.classes, domains.all()[0].classes)
        return model, recipe, domains
    if config.model.uri is None and known is None:
        raise ConfigError(
            "weights alone say no architecture", where="model.uri", fix='for example uri = "convnet"'
        )
    domains = load_domains(config, config.data.input(known.input if known else None))
    stated = {
        "weights": config.model.weights,
        "encoder": config.model.encoder,
        "allow_pickle": config.model.allow_pickle,
    }
    if known is not None and known.model is not None:
        spec = known.model.model_copy(update=stated)
    else:
        spec = ModelSpec(
            uri=config.model.uri,
            num_classes=domains.num_classes,
            channels=domains.input.channels,
            options=config.model.options,
            **stated,
        )
    model = spec.build(seed=config.seed)
    return model, Recipe.of(model, spec, domains.input, domains.all()[0].classes), domains


def load_shipped(directory: Path, uri: str | None = None) -> tuple[nn.Module, Recipe]:
    """The model of a run directory.

    Args:
        directory: of a verified run.
        uri: what the caller says the architecture is; allows the owner's own code to build it.

    Raises:
        ConfigError: the recipe names another architecture, or code that was not allowed.
    """
    recipe = Recipe.from_json((directory / RECIPE).read_bytes(), where=str(directory / RECIPE))
    spec = recipe.model
    if spec is not None and uri is not None and uri != spec.uri:
        raise ConfigError(f"{uri!r} here, {spec.uri!r} in {directory}", where="model.uri", fix="leave it out")
    if spec is None or not spec.runs_code:
        return load_checkpoint(directory)
    if uri is None:
        raise ConfigError(
            f"{directory} is built by {spec.uri}, which is not run just because a file says so",
            where="model.uri",
            fix="state it yourself if you trust it",
        )
    return load_checkpoint(directory, spec.build(load_weights=False))


def load_domains(config: Config, spec: InputSpec) -> Domains:
    """The domains of ``[data]`` at the model's input size.

    Raises:
        FreeholdError: names the key of the domain that cannot be used.
    """
    data = config.data
    authorized = _load(config, data.authorized, "data.authorized", spec) if data.authorized else None
    unauthorized = [
        _load(config, one, f"data.unauthorized.{i}", spec) for i, one in enumerate(data.unauthorized)
    ]
    domains = Domains(authorized, unauthorized, spec)
    if (config.method is None or config.method.same_classes) and (fault := domains.mismatch()):
        raise fault
    return domains


def _load(config: Config, source: Source, where: str, spec: InputSpec) -> Domain:
    data = config.data
    try:
        return load_domain(
            source.uri,
            name=source.name,
            image_size=spec.size[0] if spec.size[0] == spec.size[1] else None,
            classes=data.classes,
            seed=data.seed,
            val_fraction=data.val_fraction,
            root=data.root,
            download=data.download,
            limit=data.limit,
        )
    except FreeholdError as error:
        error.where = f"{where}: {error.where}" if error.where else where
        raise


def _same_classes(mine: tuple[str, ...], theirs: tuple[str, ...]) -> None:
    if mine != theirs:
        raise ConfigError(
            f"the model knows the classes {_short(mine)}, the data {_short(theirs)}",
            where="model.weights",
            fix="give data with the classes the model was trained on",
        )


def _short(classes: tuple[str, ...]) -> str:
    return ", ".join(classes[:4]) + (", ..." if len(classes) > 4 else "")
