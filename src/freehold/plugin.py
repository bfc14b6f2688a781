"""What every method and attack is: hyper-parameters as a frozen model, a card, a registered name."""

from __future__ import annotations

import enum
import importlib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from freehold.errors import UsageError
from freehold.settings import Settings, nearest

# One line a plug-in; third parties add theirs by an entry point of the group "freehold.plugins".
BUILTIN = {
    "map": "freehold.authorization.map:MAP",
    "ntl": "freehold.authorization.ntl:NTL",
    "cuti": "freehold.authorization.cuti:CUTI",
    "ntp": "freehold.authorization.ntp:NTP",
    "trigger-set": "freehold.ownership.trigger_set:TriggerSet",
    "ptynet": "freehold.ownership.ptynet:PTYNet",
    "passport": "freehold.ownership.passport:Passport",
    "fine-tune": "freehold.attacks.fine_tune:FineTune",
    "regularize": "freehold.attacks.regularize:Regularize",
    "transntl": "freehold.attacks.transntl:TransNTL",
    "adapt": "freehold.attacks.adapt:Adapt",
    "norm-statistics": "freehold.attacks.norm_statistics:NormStatistics",
    "disguise": "freehold.attacks.disguise:Disguise",
    "prune": "freehold.attacks.prune:Prune",
    "prune-channels": "freehold.attacks.structured:PruneChannels",
    "fine-prune": "freehold.attacks.fine_prune:FinePrune",
    "anp": "freehold.attacks.anp:NeuronPruning",
    "unprune": "freehold.attacks.unprune:Unprune",
    "quantize": "freehold.attacks.quantize:Quantize",
    "perturb": "freehold.attacks.perturb:Perturb",
    "permute": "freehold.attacks.permute:Permute",
    "extract": "freehold.attacks.extract:Extract",
    "filter": "freehold.attacks.filter:Filter",
    "overwrite": "freehold.attacks.overwrite:Overwrite",
    "cut-branch": "freehold.attacks.surgery:CutBranch",
    "substitute": "freehold.attacks.substitute:Substitute",
}


class Access(enum.IntEnum):
    """What somebody gets to see of a model; each level includes those before it."""

    LABELS = 1
    PROBABILITIES = 2
    WEIGHTS = 3


class Problem(BaseModel):
    """One reason why a plug-in cannot run as asked, found before any work."""

    model_config = ConfigDict(frozen=True)

    where: str
    what: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f" ({self.fix})" if self.fix else "")


class Card(BaseModel):
    """What a reader must know before trusting a plug-in.

    Attributes:
        title: full name of the method.
        paper: title of the publication it comes from.
        venue: where and when it was published.
        identifier: arXiv number, DOI, or empty if none was confirmed.
        goal: one sentence in plain words.
        changed: where this implementation differs from the publication.
        undisclosed: what the publication or its code leaves open; our choices stand in the fields.
        needs: data and model properties that are required.
        breaks: attacks known to defeat it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    paper: str
    venue: str
    identifier: str = ""
    goal: str
    changed: tuple[str, ...] = ()
    undisclosed: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    breaks: tuple[str, ...]


class FieldInfo(BaseModel):
    """One hyper-parameter as shown to users."""

    name: str
    type: str
    default: Any
    unit: str
    range: str
    description: str


class Plugin(Settings):
    """Base of methods and attacks: the fields are the hyper-parameters, each with unit and range."""

    name: ClassVar[str]
    kind: ClassVar[Literal["authorization", "ownership", "attack"]]
    card: ClassVar[Card]

    @classmethod
    def fields(cls) -> list[FieldInfo]:
        """Every hyper-parameter with default, unit and range, in order of declaration."""
        properties = cls.model_json_schema()["properties"]
        return [
            FieldInfo(
                name=name,
                type=_type_of(properties[name]),
                default=field.default,
                unit=str((field.json_schema_extra or {}).get("unit", ""))
                if isinstance(field.json_schema_extra, dict)
                else "",
                range=_range_of(properties[name]),
                description=field.description or "",
            )
            for name, field in cls.model_fields.items()
        ]


def _type_of(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type_of(option) for option in schema["anyOf"])
    if "enum" in schema:
        return "choice"
    return str(schema.get("type", "object"))


def _range_of(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    if "anyOf" in schema:
        return " | ".join(filter(None, map(_range_of, schema["anyOf"])))
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    return ", ".join(f"{sign} {schema[key]:.10g}" for key, sign in signs.items() if key in schema)


def names() -> dict[str, str]:
    """Registered plug-ins: name to ``module:class``; ours win over an entry point of the same name."""
    return _installed() | BUILTIN


@cache
def _installed() -> dict[str, str]:
    """Looked for once: it means to read a file of every package there is."""
    return {entry.name: entry.value for entry in entry_points(group="freehold.plugins")}


def find(name: str) -> type[Plugin]:
    """The class registered as ``name``.

    Raises:
        UsageError: no such plug-in, or its module does not give one.
    """
    registered = names()
    if name not in registered:
        raise UsageError(f"unknown method {name!r}", where="method", fix=nearest(name, registered))
    module, _, attribute = registered[name].partition(":")
    found = getattr(importlib.import_module(module), attribute)
    if not (isinstance(found, type) and issubclass(found, Plugin)):
        raise UsageError(f"{registered[name]} is no freehold plug-in", where=name)
    return found
