"""``freehold claims``: a team's registry of claims and cases."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from freehold.cli.common import Debug, Json, console, print_json, working

if TYPE_CHECKING:
    from freehold.evidence.entry import Entry
    from freehold.evidence.registry import Registry

VARIABLE, DEFAULT = "FREEHOLD_REGISTRY", "claims.db"
app = typer.Typer(
    rich_markup_mode=None,
    help="Keep a team's claims and cases: entries are added, never changed, and an edit shows.",
    no_args_is_help=True,
)
Place = Annotated[
    str | None,
    typer.Option(
        "--registry",
        metavar="FILE|URL",
        help=f"SQLite file or SQLAlchemy URL without a password; else {VARIABLE}, else {DEFAULT}.",
    ),
]


@app.command("add")
def add(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Claims, or bundles of evidence.")],
    registry: Place = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Enter claims, and of bundles the digest and the verdict; the same file is one entry.

    What does not hold on its own is refused, and so is anything that looks like a key.
    """
    from freehold.evidence.recording import record_of

    with working():
        opened = _opened(registry)
        records = [record_of(file) for file in files]  # all are sound before the first is entered
        entries = [opened.add(record) for record in records]
    if json:
        print_json({"entries": [{**entry.model_dump(mode="json"), "new": new} for entry, new in entries]})
        return
    for entry, new in entries:
        console().print(_line(entry) + ("" if new else " (was entered before)"), soft_wrap=True)


@app.command("list")
def entries(registry: Place = None, json: Json = False, debug: Debug = False) -> None:
    """Show all entries, one a line."""
    _show(_opened(registry), "", json)


@app.command("search")
def search(
    text: Annotated[str, typer.Argument(help="Owner, suspect, method, digest, commitment, decision, …")],
    registry: Place = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Show the entries that mention TEXT, in any case.

    Exit code 0: there are some; 1: there are none.
    """
    return 0 if _show(_opened(registry), text, json) else 1


@app.command("show")
def show(
    entry: Annotated[
        str, typer.Argument(metavar="NUMBER|DIGEST", help="Which; a digest's beginning will do.")
    ],
    registry: Place = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the claim to this file.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show one entry, or write the claim that it holds to a file."""
    from freehold.artifacts.files import write_file
    from freehold.errors import OutputError, UsageError

    found = _opened(registry).entry(entry)
    if out is not None:
        if not found.record.body:
            raise UsageError(
                "a case is known by its digest only", where=entry, fix="ask whoever keeps the bundle"
            )
        if out.exists():
            raise OutputError("there is a file already", where=str(out), fix="choose another name")
        write_file(out, found.record.body.encode())
    if json:
        print_json(found.model_dump(mode="json"))
        return
    shown = console()
    shown.print(f"{found.record.kind} {found.number}, entered {found.added}")
    for name, value in {"digest": found.record.digest, **found.record.about, "hash": found.hash}.items():
        shown.print(f"  {name}: {value}", soft_wrap=True)


@app.command("verify")
def verify(
    registry: Place = None,
    head: Annotated[
        str | None,
        typer.Option(metavar="NUMBER:HASH", help="As printed earlier and kept elsewhere: shows a lost end."),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """See that no entry was edited, removed, inserted or moved; print the head to keep elsewhere.

    Exit code 0: the registry is whole; 65: it is not.
    """
    from freehold.evidence.seal import Head

    found = _opened(registry).verify(head=None if head is None else Head.parse(head))
    if json:
        print_json({"entries": found.head.number, "head": str(found.head), "notes": list(found.notes)})
        return
    print(f"whole: {found.head.number} entries")
    for note in found.notes:
        print(f"note: {note}")
    print(f"head: {found.head}")


def _opened(place: str | None) -> Registry:
    from freehold.errors import SecretError
    from freehold.evidence.database import has_password
    from freehold.evidence.registry import Registry

    if place is not None and has_password(place):
        raise SecretError(
            "a password on the command line can be read by every user of this machine",
            where="--registry",
            fix=f"set {VARIABLE}, or use the database's own file such as ~/.pgpass",
        )
    return Registry(place or os.environ.get(VARIABLE) or DEFAULT)


def _show(registry: Registry, text: str, json: bool) -> int:
    found = list(registry.entries(text=text))
    if json:
        print_json({"entries": [entry.model_dump(mode="json") for entry in found]})
    else:
        out = console()
        for entry in found:
            out.print(_line(entry), soft_wrap=True)
    return len(found)


def _line(entry: Entry) -> str:
    about = entry.record.about
    what = f"{about['decision']} on {about['suspect']}, " if entry.record.kind == "case" else ""
    whose = f"{about.get('owner') or 'no named owner'}, {about.get('method', '')}"
    named = f"{entry.number:>4}  {entry.added[:10]}  {entry.record.kind}  {entry.record.digest[:12]}"
    return f"{named}  {what}{whose}"
