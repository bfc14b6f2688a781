"""A network inside another one: whoever wraps a model gives all of its layers new names."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def holding(model: nn.Module, layers: Sequence[str]) -> nn.Module:
    """The outermost part of ``model`` that has ``layers`` by these names; ``model`` itself if none has all.

    Args:
        model: as it is, or with others around or beside it.
        layers: dotted names.
    """
    return next((part for part in model.modules() if all(_has(part, name) for name in layers)), model)


def _has(part: nn.Module, name: str) -> bool:
    try:
        part.get_submodule(name)
    except AttributeError:
        return False
    return True
