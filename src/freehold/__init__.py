"""Protect trained models: bind them to their domain, mark them, and show what that did.

The names below are imported when they are first used, so that ``import freehold`` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from freehold.authorization.cuti import CUTI
    from freehold.authorization.map import MAP
    from freehold.authorization.ntl import NTL
    from freehold.authorization.ntp import NTP
    from freehold.config import Config, load_config
    from freehold.data.domain import Domain, Domains, InputSpec, Split
    from freehold.data.sources import load_domain
    from freehold.errors import FreeholdError
    from freehold.jobs.protecting import protect
    from freehold.jobs.source import train
    from freehold.keys.key import Key
    from freehold.metrics.claims import Claims
    from freehold.metrics.transfer import Evaluation, evaluate
    from freehold.models.checkpoint import Recipe, load_checkpoint
    from freehold.models.zoo import load_model
    from freehold.ownership.base import verify
    from freehold.ownership.passport import Passport
    from freehold.ownership.ptynet import PTYNet
    from freehold.ownership.suspect import suspect
    from freehold.ownership.trigger_set import TriggerSet
    from freehold.ownership.verdict import Verdict
    from freehold.protection import Protected, Protection
    from freehold.training.run import Run

_HOMES = {
    "authorization.cuti": ("CUTI",),
    "authorization.map": ("MAP",),
    "authorization.ntl": ("NTL",),
    "authorization.ntp": ("NTP",),
    "config": ("Config", "load_config"),
    "data.domain": ("Domain", "Domains", "InputSpec", "Split"),
    "data.sources": ("load_domain",),
    "errors": ("FreeholdError",),
    "jobs.protecting": ("protect",),
    "jobs.source": ("train",),
    "keys.key": ("Key",),
    "metrics.claims": ("Claims",),
    "metrics.transfer": ("Evaluation", "evaluate"),
    "models.checkpoint": ("Recipe", "load_checkpoint"),
    "models.zoo": ("load_model",),
    "ownership.base": ("verify",),
    "ownership.passport": ("Passport",),
    "ownership.ptynet": ("PTYNet",),
    "ownership.suspect": ("suspect",),
    "ownership.trigger_set": ("TriggerSet",),
    "ownership.verdict": ("Verdict",),
    "protection": ("Protected", "Protection"),
    "training.run": ("Run",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "CUTI",
    "MAP",
    "NTL",
    "NTP",
    "Claims",
    "Config",
    "Domain",
    "Domains",
    "Evaluation",
    "FreeholdError",
    "InputSpec",
    "Key",
    "PTYNet",
    "Passport",
    "Protected",
    "Protection",
    "Recipe",
    "Run",
    "Split",
    "TriggerSet",
    "Verdict",
    "evaluate",
    "load_checkpoint",
    "load_config",
    "load_domain",
    "load_model",
    "protect",
    "suspect",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'freehold' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"freehold.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
