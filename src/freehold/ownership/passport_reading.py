"""What a passport key says of a suspect's layers, and the weights that it finds there."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn

from freehold.errors import SecretError, SuspectError
from freehold.keys import Key
from freehold.models.norm_pairs import NormPair


def pairs_in(key: Key, which: Literal["layers", "aligned"] = "layers") -> tuple[NormPair, ...]:
    """The marked layers, or all that a suspect is aligned in, in order of call.

    Raises:
        SecretError: the key does not say which.
    """
    try:
        return tuple(NormPair(**pair) for pair in key.facts[which])
    except (KeyError, TypeError) as error:
        raise SecretError(
            "does not say which layers were marked", where="key", fix="use the owner's key"
        ) from error


def reference_for(key: Key, pair: NormPair, weight: Tensor) -> Tensor:
    """What the key says that a layer was like before it was marked, shaped as ``weight``."""
    held = key.learned.get(f"reference.{pair.layer}")
    if held is None or held.numel() != weight.numel():
        raise SecretError(f"holds no reference for {pair.layer!r}", where="key", fix="use the owner's key")
    return held.float().view_as(weight)


def weight_in(model: nn.Module, pair: NormPair, where: str) -> Tensor:
    """A suspect's weight of a marked layer, on the CPU; channels that were cut out are zeros at its end.

    Raises:
        SuspectError: it has no such layer, more channels or less than half of them, or numbers that are not
            finite there.
    """
    try:
        given: object = model.get_submodule(pair.layer).weight
    except AttributeError as error:
        raise SuspectError(f"has no weights in {pair.layer!r}", where=where) from error
    shape = tuple(given.shape) if isinstance(given, Tensor) else ()
    inputs, rest = divmod(pair.fan_in, max(1, math.prod(shape[2:])))
    cut = (pair.channels, inputs)
    if len(shape) < 2 or rest or not all(n <= most <= 2 * n for n, most in zip(shape, cut, strict=False)):
        raise SuspectError(f"has weights of another shape in {pair.layer!r}", where=where)
    weight: Tensor = given.detach().float().cpu()  # type: ignore[attr-defined]
    if not bool(weight.isfinite().all()):
        raise SuspectError(f"has weights that are not finite in {pair.layer!r}", where=where)
    whole = weight.new_zeros(pair.channels, inputs, *shape[2:])
    whole[: shape[0], : shape[1]] = weight
    return whole
