"""One digest over many queries, of which single ones can be shown later (the tree of RFC 6962)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from torch import Tensor


def tree_root(leaves: Sequence[bytes]) -> str:
    """Root (hex) over leaf digests: a level at a time, a last one without a partner rises as it is."""
    if not leaves:
        return hashlib.sha256(b"").hexdigest()
    level = list(leaves)
    while len(level) > 1:
        pairs = [
            hashlib.sha256(b"\1" + a + b).digest() for a, b in zip(level[::2], level[1::2], strict=False)
        ]
        level = pairs + level[len(level) - len(level) % 2 :]
    return level[0].hex()


def leaves_of(images: Tensor) -> list[bytes]:
    """A digest for each of uint8 ``(n, C, H, W)``."""
    return [hashlib.sha256(b"\0" + image.tobytes()).digest() for image in images.contiguous().numpy()]
