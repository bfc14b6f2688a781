"""``freehold demo``: the whole path on embedded real data, as two configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from freehold.cli.common import Debug, Json, print_measured, working

# In this direction the unprotected model reads the other domain well, so there is something to close.
DATA: dict[str, Any] = {"authorized": "digits-m", "unauthorized": ["digits"]}
TRAIN: dict[str, Any] = {"steps": 600, "precision": "bf16"}
METHOD: dict[str, Any] = {"name": "map", "steps": 400, "lr": 6e-4}  # half the steps, twice as large
QUICK: dict[str, Any] = {"data": {"limit": 60}, "train": {"steps": 3}, "method": {"steps": 2}}


def demo(
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder; freehold-demo by default.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A few steps only: shows that it runs, not that it works.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Run the whole path on embedded real digits.

    Trains a network on digits over photographs, closes it to plain digits, and writes a page.
    """
    from freehold.config import from_json
    from freehold.jobs import protect, train

    folder = out or Path("freehold-demo-quick" if quick else "freehold-demo")
    small: dict[str, Any] = QUICK if quick else {}
    common = {"data": {**DATA, **small.get("data", {})}, "train": {**TRAIN, **small.get("train", {})}}
    with working():
        source = train(from_json({**common, "model": {"uri": "convnet"}}), folder / "source")
        method = {**METHOD, **small.get("method", {})}
        weights = {"weights": str(source.directory)}
        report = protect(from_json({**common, "model": weights, "method": method}), folder / "protected")
    return print_measured(report, as_json=json)
