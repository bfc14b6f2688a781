"""``freehold evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from freehold.cli.common import Debug, Json, OwnModel, print_measured, working


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run directory made by 'freehold protect'.")],
    on: Annotated[
        list[str] | None,
        typer.Option("--on", metavar="URI", help="A further unauthorized domain; repeatable."),
    ] = None,
    authorized: Annotated[
        str | None,
        typer.Option(
            metavar="URI", help="Authorized images to measure on; a few are enough for an interval."
        ),
    ] = None,
    slc: Annotated[
        bool, typer.Option("--slc", help="Fine-tune as attackers would: learning curves and SLC-AUC.")
    ] = False,
    sizes: Annotated[
        str | None, typer.Option(help="With --slc: labelled images, for example 10,50,200.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="With --slc: repeats; 3 by default.")] = None,
    reference: Annotated[
        str | None, typer.Option(help="With --slc: scratch (default) or unprotected.")
    ] = None,
    original: Annotated[
        Path | None, typer.Option(help="The unprotected model, if it is no longer where it was.")
    ] = None,
    model: OwnModel = None,
    max_source_drop: Annotated[
        float | None, typer.Option(help="Claim: the authorized domain loses at most this many points.")
    ] = None,
    max_target_accuracy: Annotated[
        float | None, typer.Option(help="Claim: at most this percentage right on unauthorized domains.")
    ] = None,
    page: Annotated[Path | None, typer.Option(help="Also write a page about this measurement.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Measure a protected run again and judge its claims.

    Every byte of the run is checked first. Bars given here replace the run's own claims. --slc fine-tunes
    the released model on images that no defender trained on, once for each way an attacker may start.

    Exit code 0: all claims hold; 1: one does not; 2: the test images cannot decide.
    """
    from freehold.errors import UsageError
    from freehold.jobs import evaluate as measure
    from freehold.jobs.learning import LearningCurves
    from freehold.metrics.claims import Claims

    given = {"max_source_drop": max_source_drop, "max_target_accuracy": max_target_accuracy}
    stated = {key: value for key, value in given.items() if value is not None}
    with working():
        claims = Claims(**stated) if stated else None
        asked = {"sizes": sizes and _numbers(sizes), "seeds": seeds, "reference": reference}
        chosen = {key: value for key, value in asked.items() if value is not None}
        if chosen and not slc:
            raise UsageError("belongs to --slc", where=f"--{next(iter(chosen))}", fix="add --slc")
        report = measure(
            run,
            on=on or (),
            authorized=authorized,
            original=original,
            uri=model,
            claims=claims,
            page=page,
            learning=LearningCurves(**chosen) if slc else None,
        )
    return print_measured(report, as_json=json)


def _numbers(text: str) -> list[str]:
    """The parts of a list with commas; what they must be is checked where they are used."""
    return [part.strip() for part in text.split(",")]
