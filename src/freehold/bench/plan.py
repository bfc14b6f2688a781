"""From a suite to its cells: groups resolved, settings validated, everything wrong found before any work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from freehold.attacks.attacker import ATTACKERS
from freehold.attacks.base import Attack
from freehold.attacks.learning_curve import BUDGETS, Grid
from freehold.bench.cell import Cell, Trial
from freehold.bench.forgeries import FORGERIES
from freehold.bench.suite import Block, Choice, Curves, Pair, Suite
from freehold.config import Config, DataSection, ModelSection, TrainSection
from freehold.data.shifts import parse_shift
from freehold.errors import ConfigError, FreeholdError
from freehold.plugin import Plugin, find, names
from freehold.protection import Protection
from freehold.settings import config_error, nearest

KINDS = ("authorization", "ownership")
SOURCES = ("digits", "digits-m", "npz", "points", "folder", "torchvision")
ALONE = {"from scratch": "scratch", "unprotected": "regrow"}  # references of learning curves: no method


@dataclass(frozen=True)
class Plan:
    """A cell and what tables call its parts.

    Attributes:
        cell: what is computed.
        block: name of the block.
        pair: the domains.
        model: the architecture.
        method: label of the method.
        trial: label of what is done to the protected model; empty for nothing.
    """

    cell: Cell
    block: str
    pair: str
    model: str
    method: str
    trial: str

    @property
    def seed(self) -> int:
        """Root of the cell's randomness."""
        return int(self.cell.config["seed"])


def plan(suite: Suite) -> list[Plan]:
    """Every cell of a suite, those that share models side by side.

    Raises:
        ConfigError: an unknown method, attack, attacker, forgery, domain or field; says where.
    """
    return [found for block in suite.block for found in _block(suite, block)]


def _block(suite: Suite, block: Block) -> Iterator[Plan]:
    where = f"block {block.name}"
    data, train = {**suite.data, **block.data}, {"device": "cpu", "threads": 1, **suite.train, **block.train}
    if train["threads"] == "auto":
        raise ConfigError("must be a number: equal cells are to give equal bits", where=f"{where}: threads")
    sections = DataSection(**data), TrainSection(**train)
    if sections[0].authorized or sections[0].unauthorized:
        raise ConfigError("domains stand in pairs", where=f"{where}: data", fix="move them to pairs")
    methods = _resolved(block.methods, Protection, KINDS, block.methods_at_most, f"{where}: methods")
    attacks = _resolved(block.attacks, Attack, ("all", "strong"), block.attacks_at_most, f"{where}: attacks")
    for number, pair in enumerate(block.pairs):
        _known_sources(pair, f"{where}: pairs.{number}")
        for model in block.models:
            alone = dict.fromkeys(ALONE) if block.curves and pair.unauthorized else {}
            for seed in suite.seeds:
                for label, method in {**alone, **methods}.items():
                    config = _config(seed, *sections, pair, model, method)
                    trials = (
                        _reference(block, ALONE[label], where)
                        if method is None
                        else _trials(block, pair, method, attacks, where)
                    )
                    for trial_label, trial in trials:
                        yield Plan(
                            Cell.of(config, trial),
                            block.name,
                            pair_label(pair),
                            model_label(model),
                            label,
                            trial_label,
                        )


def _config(
    seed: int,
    data: DataSection,
    train: TrainSection,
    pair: Pair,
    model: ModelSection,
    method: Plugin | None,
) -> Config:
    domains = {"authorized": pair.authorized, "unauthorized": pair.unauthorized}
    return Config(
        seed=seed, data=data.model_copy(update=domains), model=model, train=train, method=method
    )  # fmt: skip


Named = tuple[str, Trial]  # label and trial


def _trials(
    block: Block, pair: Pair, method: Plugin, attacks: Mapping[str, Plugin], where: str
) -> Iterator[Named]:
    """What one method goes through on one pair."""
    yield "", Trial()
    chosen = {choice.label or choice.name: choice for choice in block.attacks}
    for label, attack in attacks.items():
        assert isinstance(attack, Attack)
        choice = chosen.get(label)
        data = (choice.data if choice else None) or attack.prey
        if data == "unauthorized" and not pair.unauthorized:
            if choice is None:
                continue  # of a group: it does not apply here
            raise ConfigError(
                "needs an unauthorized domain, and a pair has none",
                where=f"{where}: attacks: {label}",
                fix="move one of them to another block",
            )
        fields = attack.against(method.name).model_dump(mode="json")
        yield label, Trial(kind="attack", name=attack.name, fields=fields, data=data)
    if block.curves is not None and pair.unauthorized:
        for name in block.curves.attackers:
            if name not in ATTACKERS:
                raise ConfigError(
                    f"unknown attacker {name!r}", where=f"{where}: curves", fix=nearest(name, ATTACKERS)
                )
            yield _curve(block.curves, name, where)
    for name in FORGERIES if block.forgeries == ("all",) else block.forgeries:
        if name not in FORGERIES:
            raise ConfigError(
                f"unknown forgery {name!r}", where=f"{where}: forgeries", fix=nearest(name, FORGERIES)
            )
        if method.kind == "ownership":
            yield name, Trial(kind="forgery", name=name)


def _reference(block: Block, attacker: str, where: str) -> Iterator[Named]:
    """The learning curve of a model that nothing protects, or of none."""
    if block.curves is not None:
        yield _curve(block.curves, attacker, where)


def _curve(curves: Curves, name: str, where: str) -> Named:
    if curves.budget not in BUDGETS:
        raise ConfigError(
            f"unknown budget {curves.budget!r}", where=f"{where}: curves", fix=nearest(curves.budget, BUDGETS)
        )
    fields = {"budget": curves.budget, "sizes": list(Grid(sizes=curves.sizes, seeds=1).sizes)}
    return f"curve: {name}", Trial(kind="curve", name=name, fields=fields, data="unauthorized")


def _resolved(
    choices: Sequence[Choice],
    kind: type[Plugin],
    groups: Sequence[str],
    at_most: Mapping[str, int | float],
    where: str,
) -> dict[str, Plugin]:
    """Plug-ins by label. What is named by itself takes the place of what a group brought under that label."""
    found: dict[str, Plugin] = {}
    named: set[str] = set()
    registered = [name for name in sorted(names()) if _is(name, kind)]
    for choice in choices:
        if choice.name in groups:
            if choice.label or choice.strong or choice.data or choice.fields:
                raise ConfigError("a group is named alone", where=f"{where}: {choice.name}")
            for name in registered:
                one = find(name)
                if choice.name in KINDS and one.kind != choice.name:
                    continue
                strong = choice.name == "strong"
                if strong and not getattr(one, "stronger", None):
                    continue
                label = f"{name}, strong" if strong else name
                if label not in named:
                    found[label] = _made(one, Choice(name=name, strong=strong), where)
            continue
        if choice.name not in registered:
            options = [*groups, *registered]
            raise ConfigError(f"unknown: {choice.name!r}", where=where, fix=nearest(choice.name, options))
        label = choice.label or choice.name
        if label in named:
            raise ConfigError(f"two entries are called {label!r}", where=where, fix="give one a label")
        named.add(label)
        found[label] = _made(find(choice.name), choice, where)
    for key in at_most:
        fields = {field for one in found.values() for field in type(one).model_fields}
        if key not in fields:
            raise ConfigError("unknown key", where=f"{where}_at_most.{key}", fix=nearest(key, fields))
    return {label: _capped(one, at_most) for label, one in found.items()}


def _is(name: str, kind: type[Plugin]) -> bool:
    return issubclass(find(name), kind)


def _made(kind: type[Plugin], choice: Choice, where: str) -> Plugin:
    stronger: dict[str, Any] = getattr(kind, "stronger", {}) if choice.strong else {}
    try:
        return kind.model_validate({**stronger, **choice.fields})
    except ValidationError as error:
        raise config_error(error, kind, where=f"{where}: {choice.label or choice.name}") from None


def _capped(one: Plugin, at_most: Mapping[str, int | float]) -> Plugin:
    """``one`` with its fields held down; a field that leaves its value to the plug-in is set."""
    changed = {
        key: most
        for key, most in at_most.items()
        if key in type(one).model_fields and (getattr(one, key) is None or getattr(one, key) > most)
    }
    return type(one)(**{**one.model_dump(exclude_unset=True), **changed}) if changed else one


def _known_sources(pair: Pair, where: str) -> None:
    """Refuse what is no source or no shift before any work; whether a file is there is seen by its cells."""
    for source in (pair.authorized, *pair.unauthorized):
        base, *shifts = (part.strip() for part in source.uri.split("|"))
        scheme, colon, rest = base.partition(":")
        if scheme not in SOURCES or (scheme in SOURCES[2:]) != bool(colon and rest):
            raise ConfigError(f"unknown domain {base!r}", where=where, fix=nearest(scheme, SOURCES))
        try:
            for shift in shifts:
                parse_shift(shift)
        except FreeholdError as error:
            raise ConfigError(error.what, where=f"{where}: {source.uri}", fix=error.fix) from None


def domain_label(text: str) -> str:
    """``npz:mnist_m.npz`` is called ``mnist_m``."""
    base, *shifts = (part.strip() for part in text.split("|"))
    _, _, path = base.partition(":")
    stem = (path or base).rsplit("/", 1)[-1].removesuffix(".npz")
    return " | ".join((stem, *shifts))


def pair_label(pair: Pair) -> str:
    """``source → targets``, or the one domain alone."""
    here, *there = (one.name or domain_label(one.uri) for one in (pair.authorized, *pair.unauthorized))
    return f"{here} → {' + '.join(there)}" if there else here


def model_label(model: ModelSection) -> str:
    """The URI, or where its weights lie."""
    return model.uri or str(model.weights)
