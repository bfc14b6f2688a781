"""``freehold bench``: suites of cells, and what comes out of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from freehold.cli.common import Debug, Json, console, print_json, print_place, working

if TYPE_CHECKING:
    from freehold.bench.runner import Summary
    from freehold.bench.stages import Place

Name = Annotated[str, typer.Argument(metavar="SUITE", help="A shipped suite, or a TOML file.")]
Results = Annotated[
    Path | None, typer.Option(help="Folder of the results; by default bench/ and the suite's name.")
]
bench = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Run suites of methods, domains, attacks and seeds; report them.",
)


@bench.command("run")
def run(
    suite: Name,
    results: Results = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder that paths of data start from; else FREEHOLD_DATA, else this folder."),
    ] = None,
    runner: Annotated[
        Literal["here", "ray"], typer.Option(help="In this process, or as tasks of Ray (extra: ray).")
    ] = "here",
    address: Annotated[
        str | None, typer.Option(help="With Ray: of a running cluster; by default processes of this machine.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="With Ray on this machine: cores to use; all by default.")
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Compute the cells of a suite that have no result yet.

    Stop it whenever you like: the same command goes on. Failed cells are tried again.

    Exit code 0: every cell has its result; 1: at least one failed.
    """
    from freehold.bench.runner import InProcess, Runner, run_suite
    from freehold.bench.suite import load_suite
    from freehold.errors import UsageError

    loaded, folder = load_suite(suite), results or _folder(suite)
    chosen: Runner
    if runner == "ray":
        from freehold.bench.ray import OnRay

        chosen = OnRay(loaded.needs, address=address, workers=workers)
    elif address is not None or workers is not None:
        option = "--address" if address is not None else "--workers"
        raise UsageError("belongs to --runner ray", where=option, fix="add --runner ray")
    else:
        chosen = InProcess()
    with working():
        found = run_suite(loaded, folder, place=_place(data), runner=chosen)
    if json:
        print_json({"results": str(folder), **found.to_json()})
    else:
        _print(found)
        print_place("results", folder)
    return int(bool(found.failures()))


@bench.command("status")
def status(suite: Name, results: Results = None, json: Json = False, debug: Debug = False) -> int:
    """Say which cells of a suite are done, failed or missing; nothing is run."""
    from freehold.bench.runner import look
    from freehold.bench.suite import load_suite

    found = look(load_suite(suite), results or _folder(suite))
    if json:
        print_json(found.to_json())
    else:
        _print(found)
    return 0


@bench.command("report")
def report(
    suite: Name,
    results: Results = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the page and tables; in the results.")
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Write page, CSV, Markdown and LaTeX of what results there are; missing cells are shown as missing."""
    from freehold.bench.reporting import write_report
    from freehold.bench.suite import load_suite

    folder = results or _folder(suite)
    written = write_report(load_suite(suite), folder, out or folder / "report")
    if json:
        print_json({name: str(path) for name, path in written.items()})
    else:
        for name, path in written.items():
            print_place(name, path)
    return 0


@bench.command("list")
def list_suites(json: Json = False, debug: Debug = False) -> int:
    """List the suites that come with the package."""
    from rich.table import Table

    from freehold.bench.suite import load_suite, shipped

    found = {name: load_suite(name).title for name in shipped()}
    if json:
        print_json({"suites": found})
    else:
        table = Table("suite", "what it is", box=None, pad_edge=False)
        for name, title in found.items():
            table.add_row(name, title)
        console().print(table)
    return 0


def _folder(suite: str) -> Path:
    """Where results go that were given no folder."""
    return Path("bench") / Path(suite).stem


def _place(data: Path | None) -> Place:
    import os

    from freehold.bench.stages import Place

    return Place.default(data or Path(os.environ.get("FREEHOLD_DATA", ".")))


def _print(found: Summary) -> None:
    out = console()
    out.print(", ".join(f"{count} {state}" for state, count in found.counts().items()))
    for one, error in found.failures():
        what = ", ".join(filter(None, [one.pair, one.model, one.method, one.trial, f"seed {one.seed}"]))
        out.print(f"failed: {what}: {error}", soft_wrap=True)
