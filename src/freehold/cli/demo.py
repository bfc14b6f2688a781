"""``freehold demo``: the whole path on embedded real data: train, bind; mark, steal, verify."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from freehold.cli.common import Debug, Json, print_json, print_measured, print_place, working
from freehold.cli.passphrases import VARIABLE
from freehold.cli.verify import print_verdict

# In this direction the unprotected model reads the other domain well, so there is something to close.
DATA: dict[str, Any] = {"authorized": "digits-m", "unauthorized": ["digits"]}
TRAIN: dict[str, Any] = {"steps": 400, "precision": "bf16"}
METHOD: dict[str, Any] = {"name": "map", "steps": 260, "lr": 9e-4}  # fewer steps, three times as large
# Fewer steps and a heavier mark; the recipe that survives more would take twice as long.
MARK: dict[str, Any] = {"name": "trigger-set", "recipe": "plain", "steps": 150, "lr": 6e-4, "weight": 0.3}
INNOCENT: dict[str, Any] = {**TRAIN, "steps": 200}
THEFT: dict[str, Any] = {**TRAIN, "steps": 100, "lr": 3e-4}  # fine-tunes all weights on all of the data
FEW: dict[str, Any] = {"steps": 3}
PASSPHRASE = "demo"  # of the demo's key, unless the environment has one


def demo(
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder; freehold-demo by default.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A few steps only: shows that it runs, not that it works.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Run the whole path on embedded real digits.

    Trains a network on digits over photographs, closes it to plain digits and writes a page. Also marks it
    with a secret key: a thief fine-tunes a copy of the marked network, somebody innocent trains one of
    their own, and the key tells them apart.
    """
    from freehold.config import Config, from_json
    from freehold.jobs import protect, train, verify, watermark
    from freehold.keys import Key

    folder = out or Path("freehold-demo-quick" if quick else "freehold-demo")
    few: dict[str, Any] = FEW if quick else {}
    data = {**DATA, "limit": 60} if quick else DATA
    secret = os.environ.get(VARIABLE, PASSPHRASE)

    def config(model: dict[str, Any], steps: dict[str, Any], **rest: Any) -> Config:
        return from_json({"data": data, "model": model, "train": {**steps, **few}, **rest})

    def of(directory: Path) -> dict[str, Any]:
        return {"weights": str(directory)}

    with working():
        source = train(config({"uri": "convnet"}, TRAIN), folder / "source").directory
        bound = config(of(source), TRAIN, method={**METHOD, **few})
        report = protect(bound, folder / "protected")
        # Both start from the source: cutting weights takes a mark out, marking opens what was closed.
        mark, key = config(of(source), TRAIN, method={**MARK, **few}), folder / "owner.key"
        marked = watermark(mark, folder / "marked", key, lambda new: secret, owner="the demo's owner")
        thief = train(config(of(marked.directory), THEFT, seed=1), folder / "thief").directory
        innocent = train(config({"uri": "convnet"}, INNOCENT, seed=2), folder / "innocent").directory
        found = verify(
            [thief, innocent],
            Key.load(key, secret),
            commitment=marked.commitment,
            page=folder / "verdict.html",
        )
    if json:
        print_json({**report.to_json(), "mark": marked.to_json(), "verify": found.to_json()})
        return report.verdict.value
    code = print_measured(report, as_json=False)
    print()
    print(" ".join(marked.summary))
    for verdict in found.verdicts:
        print_verdict(verdict)
    print_place("key", marked.key)
    print(f"commitment: {marked.commitment}")
    print_place("page of the mark", marked.directory / "page.html")
    print_place("page of the verdicts", folder / "verdict.html")
    return code
