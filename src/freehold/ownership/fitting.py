"""What does not fit: levels, keys and suspects, refused before any query; and answers, before they count."""

from __future__ import annotations

import hmac
import json

import torch
from torch import Tensor

from freehold.data.inputs import InputSpec
from freehold.errors import ModelError, SecretError, UsageError
from freehold.keys.key import Key
from freehold.ownership.suspect import Suspect
from freehold.plugin import Plugin


def check_alpha(alpha: float) -> None:
    """Refuse a level that is none.

    Raises:
        UsageError: it is not in (0, 0.05].
    """
    if not 0 < alpha <= 0.05:
        raise UsageError(f"alpha {alpha} is not in (0, 0.05]", where="alpha")


def check_key(method: Plugin, key: Key, commitment: str | None = None) -> None:
    """Refuse a key that ``method``, with its settings, did not bind, or that was not committed to.

    Raises:
        UsageError: it is no key.
        SecretError: it is of another method, other settings or another commitment.
    """
    if not isinstance(key, Key):
        raise UsageError(f"a {type(key).__name__} is no key", where="key")
    if key.method != method.name:
        fix = f"verify with {key.method}" if key.method else "the key was never bound to a model"
        raise SecretError(f"the key is not of {method.name}", where="key", fix=fix)
    if json.loads(method.model_dump_json()) != dict(key.settings):
        raise SecretError("the key was made with other settings", where="key", fix="call freehold.verify")
    if commitment is not None and not hmac.compare_digest(
        commitment.strip().lower().encode(), key.commitment.encode()
    ):
        raise SecretError(
            "the key is not the one that was committed to",
            where="commitment",
            fix="hand in the commitment published with the model, or its key",
        )


def check_suspect(suspect: Suspect, key: Key) -> None:
    """Refuse a suspect that cannot come from the marked model as it is.

    Raises:
        ModelError: it knows another number of classes.
        UsageError: it takes other images.
    """
    facts = key.facts
    if suspect.num_classes != facts["num_classes"]:
        raise ModelError(
            f"knows {suspect.num_classes} classes; the marked model knows {facts['num_classes']}",
            where=suspect.name,
            fix="if its classes contain those of the marked model, wrap it in a function that maps them",
        )
    marked = InputSpec(**facts["input"])
    if (suspect.input.size, suspect.input.channels) != (marked.size, marked.channels):
        raise UsageError(
            f"takes {suspect.input.channels} x {suspect.input.size} images; "
            f"the marked model takes {marked.channels} x {marked.size}",
            where=suspect.name,
            fix="wrap it in a function that resizes",
        )


def fitting(part: Tensor, left: int, where: str) -> Tensor:
    """``part`` of a method's answers on the CPU, int64 ``(n,)`` and at most ``left`` of them.

    Raises:
        UsageError: it is anything else.
    """
    if part.dtype != torch.int64 or part.dim() != 1 or len(part) > left:
        raise UsageError(f"answers of shape {tuple(part.shape)} for {left} trials", where=where)
    return part.cpu()
