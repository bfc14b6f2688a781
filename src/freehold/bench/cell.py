"""One cell: a base model, a protection, and one thing done to the result, all of it said by plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from pydantic import Field

from freehold.artifacts import fingerprint
from freehold.config import Config, from_json
from freehold.settings import Settings

FORMAT = 1  # raise it when what a cell computes changes, so that old results are not taken for new ones
# Keys of a configuration that say how or where something is computed, not what.
_UNSEEN = {
    "data": ("download", "root"),
    "model": ("allow_pickle",),
    "train": ("checkpoint_seconds", "trackers"),
}


class Trial(Settings):
    """What is done to a protected model."""

    kind: Literal["none", "attack", "curve", "forgery"] = "none"
    name: str = Field("", description="of the attack, the attacker or the forgery")
    fields: dict[str, Any] = Field(default_factory=dict)
    data: Literal["authorized", "unauthorized"] = "authorized"


@dataclass(frozen=True)
class Cell:
    """A pure function of its resolved configuration, named by the hash of it.

    Attributes:
        config: as :meth:`freehold.config.Config.to_json` gives it; without a method nothing protects.
        trial: as :class:`Trial` says.
    """

    config: Mapping[str, Any]
    trial: Mapping[str, Any]

    @classmethod
    def of(cls, config: Config, trial: Trial) -> Cell:
        """From validated parts."""
        data = config.to_json()
        data.pop("claims", None)
        for section, keys in _UNSEEN.items():
            for key in keys:
                data[section].pop(key, None)
        return cls(data, trial.model_dump(mode="json"))

    @cached_property
    def name(self) -> str:
        """32 hex digits."""
        return fingerprint(self.to_json())[:32]

    def to_json(self) -> dict[str, Any]:
        """As JSON-able data."""
        return {"format": FORMAT, "config": dict(self.config), "trial": dict(self.trial)}

    def parsed(self) -> tuple[Config, Trial]:
        """The validated parts.

        Raises:
            ConfigError: they do not fit this version.
        """
        return from_json(self.config), Trial(**self.trial)
