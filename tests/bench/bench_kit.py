"""A suite that takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from freehold.bench import Store, Suite, run_suite
from freehold.bench.stages import Place

TINY: dict[str, Any] = {
    "title": "Tiny",
    "seeds": [0, 1],
    "data": {"image_size": 16, "limit": 40},
    "train": {"steps": 2, "batch_size": 8, "precision": "bf16"},
    "block": [
        {
            "name": "bound",
            "methods": [{"name": "map", "steps": 2, "batch_size": 8, "lr": 0.01}],
            "pairs": [{"authorized": "digits-m", "unauthorized": "digits"}],
            "attacks": [
                "prune",
                {"name": "fine-tune", "label": "tuned", "data": "unauthorized", "epochs": 1},
            ],
            "curves": {"sizes": [4, 8], "budget": "published"},
        },
        {
            "name": "marked",
            "methods": [{"name": "trigger-set", "steps": 2, "triggers": 20, "recipe": "plain"}],
            "pairs": [{"authorized": "digits"}],
            "attacks": ["quantize"],
            "forgeries": ["labels after the fact", "closed form"],
        },
    ],
}


def tiny(**changes: Any) -> Suite:
    return Suite.model_validate({**TINY, **changes})


def changed(block: int, **changes: Any) -> dict[str, Any]:
    """The tiny suite's data with other keys in one block."""
    blocks = [dict(b) for b in TINY["block"]]
    blocks[block] |= changes
    return {**TINY, "block": blocks}


def place(folder: Path) -> Place:
    return Place(folder, folder / "cache")


def digests(results: Path) -> dict[str, str]:
    return {name: outcome.digest for name, outcome in Store(results).outcomes().items()}


__all__ = ["TINY", "changed", "digests", "place", "run_suite", "tiny"]
