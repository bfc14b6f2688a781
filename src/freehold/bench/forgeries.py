"""Forgeries."""

from __future__ import annotations

from typing import Any

from freehold.bench.cell import Cell
from freehold.bench.stages import Place

FORGERIES: dict[str, object] = {}


def forge(name: str, cell: Cell, place: Place) -> dict[str, Any]:
    """One false claim."""
    raise NotImplementedError
