"""``freehold evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from freehold.cli.common import Debug, Json, print_measured, working


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run directory made by 'freehold protect'.")],
    on: Annotated[
        list[str] | None,
        typer.Option("--on", metavar="URI", help="A further unauthorized domain; repeatable."),
    ] = None,
    original: Annotated[
        Path | None, typer.Option(help="The unprotected model, if it is no longer where it was.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="URI", help="Allow your own code to build the model: package.module:factory."),
    ] = None,
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

    Every byte of the run is checked first. Bars given here replace the run's own claims.

    Exit code 0: all claims hold; 1: one does not; 2: the test images cannot decide.
    """
    from freehold.jobs import evaluate as measure
    from freehold.metrics.claims import Claims

    given = {"max_source_drop": max_source_drop, "max_target_accuracy": max_target_accuracy}
    stated = {key: value for key, value in given.items() if value is not None}
    with working():
        claims = Claims(**stated) if stated else None
        report = measure(run, on=on or (), original=original, uri=model, claims=claims, page=page)
    return print_measured(report, as_json=json)
