"""What the tests of the command line share."""

from __future__ import annotations

TINY = (
    "data.authorized=digits-m", "data.unauthorized=digits", "data.image_size=16", "data.limit=40",
    "train.threads=1", "train.steps=2", "train.batch_size=8",
)  # fmt: skip
CUTTING = ("method.name=map", "method.steps=2", "method.batch_size=8", "method.lr=0.01")


def sets(*pairs: str) -> list[str]:
    return [word for pair in pairs for word in ("--set", pair)]
