"""Options that verbs share, and how results are printed."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from freehold.jobs import MeasuredReport
    from freehold.metrics.transfer import Evaluation

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="TOML file; relative paths in it start at the working directory."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", "-s", metavar="KEY=VALUE", help="Change one key, as in train.lr=0.001; repeatable."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", help="Run directory; by default one under runs/ named after the configuration."
    ),
]
OwnModel = Annotated[
    str | None,
    typer.Option(metavar="URI", help="Allow your own code to build the model: package.module:factory."),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, and nothing else.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug logs.")]


@contextlib.contextmanager
def working() -> Iterator[None]:
    """While a job runs, whatever other libraries print goes to standard error."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def console() -> Console:
    """Standard output for people; names of domains are shown as they are, never read as markup."""
    from rich.console import Console

    return Console(markup=False, highlight=False, emoji=False, width=None if sys.stdout.isatty() else 110)


def print_json(data: Any) -> None:
    """One JSON object on standard output."""
    print(json.dumps(data, indent=2, allow_nan=False))


def print_measured(report: MeasuredReport, *, as_json: bool) -> int:
    """The outcome of a protection or its evaluation; returns the exit code its claims ask for."""
    if as_json:
        print_json(report.to_json())
        return report.verdict.value
    from freehold.report.numbers import between, st_d

    out = console()
    for sentence in report.summary:
        out.print(sentence, soft_wrap=True)
    out.print()
    print_table(report.evaluation)
    if (figure := report.evaluation.st_d) is not None:
        out.print(f"ST-D {st_d(figure.value)}", *figure.flags, sep="; ")
    for found in report.learned:
        out.print(f"\nfine-tuned on {found.domain}, the worst for the defender first:")
        for area in (*found.areas, *((found.unprotected,) if found.unprotected else ())):
            out.print(f"  {area}", soft_wrap=True)
    for note in report.evaluation.notes:
        out.print(f"note: {note}", soft_wrap=True)
    for claim in report.claims:
        shown = between(claim.interval.low, claim.interval.high)
        out.print(
            f"claim {claim.verdict.name.lower()}: {claim.text} (measured {claim.measured:.1f}, {shown})",
            soft_wrap=True,
        )
    print_place("run", report.directory, already=report.already)
    if report.page is not None:
        print_place("page", report.page)
    return report.verdict.value


def print_table(evaluation: Evaluation) -> None:
    """Accuracy before and after, one row a domain."""
    from rich.table import Table

    from freehold.report.numbers import between, interval, percent, points

    table = Table(box=None, pad_edge=False)
    for title in ("domain", ""):
        table.add_column(title)
    for title in ("before", "after", "95 % interval", "drop", "95 % interval"):
        table.add_column(title, justify="right")
    for d in evaluation.domains:
        drop = between(100 * d.drop_low, 100 * d.drop_high)
        after = d.after
        table.add_row(
            d.name,
            d.role,
            percent(d.before.value),
            percent(after.value),
            interval(after.low, after.high),
            points(100 * d.drop),
            drop,
        )
    console().print(table)


def print_place(what: str, path: Path, *, already: bool = False) -> None:
    """A path on a line of its own, never wrapped."""
    print(f"{what}: {path}" + (" (was finished before; nothing was computed)" if already else ""))
