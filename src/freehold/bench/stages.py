"""What cells share: base models and protected models, made once, kept by the hash of what made them."""

from __future__ import annotations

import copy
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save
from torch import Tensor, nn

from freehold.artifacts import as_json, fingerprint, write_file
from freehold.artifacts.files import writing
from freehold.artifacts.locks import locked
from freehold.authorization.bank import cache_folder
from freehold.bench.cell import Cell
from freehold.config import Config, from_json
from freehold.data.domain import Domains
from freehold.errors import FreeholdError
from freehold.jobs.assembly import assemble
from freehold.keys import Key
from freehold.keys.stream import derive_secret
from freehold.metrics.accuracy import predict
from freehold.models.checkpoint import Recipe, load_checkpoint, save_checkpoint
from freehold.models.weights import read_safetensors
from freehold.training import Run, Trainer
from freehold.training.classifier import train_classifier

logger = logging.getLogger(__name__)
OWNER = "benchmark with a public secret"
_FILES = ("npz", "points", "folder")
_MEMORIES: list[Any] = []
T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """Where cells find and keep what they need; no part of what they compute.

    Attributes:
        data: folder that relative paths of domains and weights start from.
        cache: folder of base and protected models; several processes may share it.
    """

    data: Path
    cache: Path

    @classmethod
    def default(cls, data: Path | None = None) -> Place:
        """Data in the working directory, models in the user's cache."""
        return cls((data or Path()).absolute(), cache_folder().with_name("bench"))


@dataclass(frozen=True)
class Base:
    """An unprotected model on its domains."""

    model: nn.Module
    recipe: Recipe
    domains: Domains
    run: Run


@dataclass(frozen=True)
class Made:
    """A protected model, and the key to it if it has one."""

    model: nn.Module
    key: Key | None


def base(cell: Cell, place: Place) -> Base:
    """The unprotected model of ``cell``: the weights that it names, or trained once and kept.

    Raises:
        FreeholdError: data or weights are missing or do not fit, or the training failed.
    """
    return _given(_base(_text(cell.config, method=False), place))


def protected(cell: Cell, place: Place) -> Made:
    """The protected model of ``cell``; without a method the unprotected one.

    Raises:
        ProblemsError: the method cannot run on this model and these domains.
        FreeholdError: as :func:`base`.
    """
    return _given(_protected(_text(cell.config), place))


def key_of(config: Config) -> Key:
    """The secret of a benchmark: derived from public words and the seed, so that anybody can repeat it."""
    return Key(derive_secret(b"freehold bench: a public test secret", config.seed), OWNER)


def remembering_errors(make: Callable[[str, Place], T]) -> Callable[[str, Place], T | FreeholdError]:
    """The last results of ``make``; one that failed is not tried for every cell anew."""

    @lru_cache(3)
    def remembered(text: str, place: Place) -> T | FreeholdError:
        try:
            return make(text, place)
        except FreeholdError as error:
            return error

    _MEMORIES.append(remembered)
    return remembered


def _given(found: T | FreeholdError) -> T:
    if isinstance(found, FreeholdError):
        raise found.with_traceback(None)
    return found


def _text(config: Mapping[str, Any], *, method: bool = True) -> str:
    return json.dumps({k: v for k, v in config.items() if method or k != "method"}, sort_keys=True)


@remembering_errors
def _base(text: str, place: Place) -> Base:
    config = rooted(from_json(json.loads(text)), place)
    model, recipe, domains = assemble(config)
    run = config.run(progress=False)
    if config.model.weights is not None:
        return Base(model.eval(), recipe, domains, run)
    domain = domains.all()[0]
    about = json.loads(text)
    about["data"].pop("unauthorized")
    folder = place.cache / f"base-{_fingerprint(about, Domains(domain, (), domains.input))}"

    def make(work: Path) -> None:
        trained = copy.deepcopy(model)
        trainer = Trainer(run.model_copy(update={"directory": work}), folder.name)
        train_classifier(trained, domain, domains.input, config.train, trainer)
        save_checkpoint(work, trained.to("cpu"), recipe)

    kept(folder, make)
    # Always read back into the untrained one: training leaves another memory layout, and so other roundings.
    return Base(load_checkpoint(folder, model)[0], recipe, domains, run)


@remembering_errors
def _protected(text: str, place: Place) -> Made:
    config = from_json(json.loads(text))
    given = _given(_base(_text(json.loads(text), method=False), place))
    method = config.method
    if method is None:
        return Made(given.model, None)
    folder = place.cache / f"protected-{_fingerprint(json.loads(text), given.domains)}"
    key = key_of(config) if method.kind == "ownership" else None

    def make(work: Path) -> None:
        run = given.run.model_copy(update={"directory": work})
        done = method.protect(given.model, given.domains, run=run, key=key)
        done.save(work, given.recipe)
        if done.key is not None:
            facts = {"about": OWNER, "facts": dict(done.key.facts)}
            write_file(work / "key.json", as_json(facts))
            write_file(work / "key.safetensors", save(dict(done.key.learned)))

    kept(folder, make)
    model = load_checkpoint(folder, given.model)[0]
    if key is not None:
        facts = json.loads((folder / "key.json").read_bytes())["facts"]
        learned = read_safetensors(folder / "key.safetensors")[0]
        key = key.bound(method.name, method.model_dump(mode="json"), facts, learned)
    return Made(model, key)


@remembering_errors
def _answers(text: str, place: Place) -> Mapping[str, Tensor]:
    given = _given(_base(text, place))
    model = copy.deepcopy(given.model).to(device_of(given.run))
    spec, precision = given.domains.input, given.run.precision
    return {d.name: predict(model, d.test, spec, precision=precision).cpu() for d in given.domains.all()}


def base_answers(cell: Cell, place: Place) -> Mapping[str, Tensor]:
    """Classes that the unprotected model gives the test images, int64 ``(N,)`` by domain."""
    return _given(_answers(_text(cell.config, method=False), place))


def _fingerprint(config: Mapping[str, Any], domains: Domains) -> str:
    """Of what is made and of the data's content, wherever it lies."""
    records = {d.name: {k: v for k, v in d.record.items() if k != "source"} for d in domains.all()}
    return fingerprint([config, records])[:32]


def kept(folder: Path, make: Callable[[Path], None]) -> None:
    """See that ``folder`` is there, made whole by ``make`` if it is not.

    Of several processes that want it one makes it and the others wait. One that is killed leaves the state of
    its fits behind, and whoever comes next goes on from it.
    """
    work = folder.with_name(f".{folder.name}.partial")
    if folder.is_dir():
        return
    with locked(folder.with_name(f".{folder.name}.lock"), wait=True):
        if folder.is_dir():
            return
        with writing(work):
            work.mkdir(exist_ok=True)
        try:
            make(work)
        except FreeholdError:
            shutil.rmtree(work, ignore_errors=True)
            raise
        with writing(folder):
            for state in work.glob("*.state"):
                state.unlink()
            work.rename(folder)


def rooted(config: Config, place: Place) -> Config:
    """``config`` with relative paths of files starting at the place's data folder."""
    data = config.to_json()

    def moved(source: dict[str, Any]) -> dict[str, Any]:
        scheme, colon, rest = source["uri"].partition(":")
        if scheme not in _FILES or not colon:
            return source
        path, bar, shifts = rest.partition("|")
        return {**source, "uri": f"{scheme}:{place.data / path.strip()}{' |' if bar else ''}{shifts}"}

    if "authorized" in data["data"]:
        data["data"]["authorized"] = moved(data["data"]["authorized"])
    data["data"]["unauthorized"] = [moved(source) for source in data["data"]["unauthorized"]]
    data["data"]["root"] = str(place.data)
    for key in ("weights", "encoder"):
        if key in data["model"]:
            data["model"][key] = str(place.data / data["model"][key])
    return from_json(data)


def device_of(run: Run) -> torch.device:
    """The device that a cell computes on."""
    device: torch.device = Trainer(run).device
    return device


def forget() -> None:
    """Let go of models and errors in memory; models on disk stay."""
    for memory in _MEMORIES:
        memory.cache_clear()
