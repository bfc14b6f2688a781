"""Numbers derived from a secret: one stream a purpose, none of which tells anything about another.

Unlike :mod:`freehold.seeds`, whose numbers anybody can repeat, these are cryptographic: without the
secret they cannot be told from chance, and no other path of names leads to them.
"""

from __future__ import annotations

import hashlib
import hmac
import math

import numpy as np
import torch
from torch import Tensor

from freehold.errors import UsageError

_DOMAIN = b"freehold/stream/1"


def derive_secret(secret: bytes, *path: str | int) -> bytes:
    """32 bytes of HMAC-SHA-256 of ``path`` under ``secret``; parts are prefixed by kind and length."""
    message = [_DOMAIN]
    for part in path:
        text = str(part).encode()
        message += [b"i" if isinstance(part, int) else b"s", len(text).to_bytes(4, "big"), text]
    return hmac.digest(secret, b"".join(message), "sha256")


class Stream:
    """An endless stream of secret numbers; each call goes on where the last one stopped.

    SHAKE-256 over the derived 32 bytes and the number of the call. Integers, bits and labels are the
    same on every machine; Gaussian numbers may differ in the last place.
    """

    __slots__ = ("_calls", "_secret")

    def __init__(self, secret: bytes, *path: str | int) -> None:
        self._secret, self._calls = derive_secret(secret, *path), 0

    def __repr__(self) -> str:
        return "Stream(<redacted>)"

    def __reduce__(self) -> str:
        raise TypeError("a stream of secrets is never pickled")

    def draw(self, size: int) -> bytes:
        """``size`` bytes."""
        self._calls += 1
        return hashlib.shake_256(self._secret + self._calls.to_bytes(8, "big")).digest(size)

    def integers(self, bound: int, *shape: int) -> Tensor:
        """Independent uniform integers in ``[0, bound)``, int64, exactly uniform by rejection.

        Raises:
            UsageError: ``bound`` is not in ``[1, 2**32]``.
        """
        if not 1 <= bound <= 1 << 32:
            raise UsageError(f"cannot draw integers below {bound}", where="bound", fix="1 to 2**32")
        count, fair = math.prod(shape), (1 << 32) // bound * bound
        kept = np.empty(0, np.uint32)
        while len(kept) < count:
            words = np.frombuffer(self.draw(4 * (count - len(kept))), "<u4")
            kept = np.concatenate([kept, words[words < fair]])
        return torch.from_numpy((kept.astype(np.int64) % bound).reshape(shape))

    def bits(self, *shape: int) -> Tensor:
        """Independent fair bits, int64 of 0 and 1."""
        return self.integers(2, *shape)

    def uniform(self, *shape: int) -> Tensor:
        """Independent uniform float32 in ``[0, 1)``, multiples of ``2**-24``."""
        words = np.frombuffer(self.draw(4 * math.prod(shape)), "<u4") >> 8
        return torch.from_numpy((words * np.float32(2.0**-24)).astype(np.float32).reshape(shape))

    def normal(self, *shape: int) -> Tensor:
        """Independent standard normal float32 (Box and Muller)."""
        radius = (-2 * (1 - self.uniform(*shape)).double().log()).sqrt()  # 1 - u is never 0
        return (radius * (2 * math.pi * self.uniform(*shape).double()).cos()).float()

    def seed(self) -> int:
        """A seed in ``[0, 2**63)`` for generators that take nothing longer."""
        return int.from_bytes(self.draw(8), "big") >> 1
