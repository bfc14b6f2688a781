"""The ``freehold`` command: its verbs, and how every way of ending becomes a line and an exit code."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from freehold.cli import (
    attack,
    bench,
    check,
    claim,
    claims,
    demo,
    doctor,
    evaluate,
    export,
    key,
    listing,
    protect,
    scan,
    trace,
    train,
    verify,
    watermark,
)
from freehold.cli.common import Debug
from freehold.errors import FreeholdError

USAGE, INTERNAL, INTERRUPTED, UNREAD = 64, 70, 130, 141

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,  # plain help comes in half the time
    pretty_exceptions_enable=False,
    help="Protect trained models: bind them to their domain, mark them as yours, and show what that did.",
    epilog="Exit codes: 0 done, 1 a claim fails or nothing matches, 2 inconclusive, "
    "64 and above wrong use or broken input.",
)
app.command("train")(train.train)
app.command("protect")(protect.protect)
app.command("evaluate")(evaluate.evaluate)
app.command("attack")(attack.attack)
app.command("watermark")(watermark.watermark)
app.command("verify")(verify.verify)
app.command("keygen")(claim.keygen)
app.command("claim")(claim.claim)
app.command("stamp")(claim.stamp)
app.command("check")(check.check)
app.command("trace")(trace.trace)
app.add_typer(key.app, name="key")
app.add_typer(claims.app, name="claims")
app.command("export")(export.export)
app.command("scan")(scan.scan)
app.add_typer(bench.bench, name="bench")
app.command("list")(listing.list_plugins)
app.command("doctor")(doctor.doctor)
app.command("demo")(demo.demo)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Debug = False,
) -> None:
    """Options before the verb."""
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"freehold {installed('freehold')}")
        raise typer.Exit(0)
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(USAGE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; nothing but one line is shown of an error."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    with _logging(debug):
        try:
            code = app(args=arguments, prog_name="freehold", standalone_mode=False)
            sys.stdout.flush()
            if code == INTERRUPTED:  # how newer versions of typer report Ctrl-C
                raise KeyboardInterrupt
            return int(code or 0)
        except (KeyboardInterrupt, typer.Abort):
            return _end(
                INTERRUPTED, "interrupted; the same command given again goes on with an unfinished run", debug
            )
        except FreeholdError as error:
            return _end(error.exit_code, f"error: {error}", debug)
        except (BrokenPipeError, SystemExit) as error:
            if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
                return _end(INTERNAL, f"error: the code that was run called sys.exit({error.code!r})", debug)
            # Our reader went away, as in "freehold list | head"; never 0, which would say that claims hold.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return UNREAD
        except Exception as error:
            if hasattr(error, "format_message"):  # of the parser, whichever library typer brings along
                return _end(
                    USAGE, f"error: {error.format_message()} (freehold --help lists verbs and options)", debug
                )
            text = f"error: {type(error).__name__}: {error} (unexpected; --debug shows the traceback)"
            return _end(INTERNAL, text, debug)


def _end(code: int, text: str, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(" ".join(text.split()), file=sys.stderr)
    return code


@contextlib.contextmanager
def _logging(debug: bool) -> Iterator[None]:
    """Log to standard error; warnings of other libraries only when debugging."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    ours = logging.getLogger("freehold")
    level, quiet = ours.level, logging.getLogger("py.warnings")
    handler.setLevel(logging.DEBUG if debug else logging.WARNING)
    ours.setLevel(logging.DEBUG if debug else logging.INFO)
    ours.addHandler(handler)
    quiet.propagate = debug
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        quiet.propagate = True
        ours.removeHandler(handler)
        ours.setLevel(level)
