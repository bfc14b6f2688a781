"""``freehold list``: every plug-in, or the card and the fields of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from freehold.cli.common import Debug, Json, console, print_json

if TYPE_CHECKING:
    from freehold.plugin import Plugin


def list_plugins(
    method: Annotated[str | None, typer.Argument(help="Show the card and every field of this one.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """List methods, or show the card and fields of one."""
    from freehold.plugin import find, names

    found = {name: find(name) for name in ([method] if method else sorted(names()))}
    if json:
        shown = [_as_json(name, kind) for name, kind in found.items()]
        print_json(shown[0] if method else {"plugins": shown})
    elif method:
        _show_one(method, found[method])
    else:
        _show_all(found)
    return 0


def _as_json(name: str, kind: type[Plugin]) -> dict[str, object]:
    fields = [field.model_dump(mode="json") for field in kind.fields()]
    return {"name": name, "kind": kind.kind, "card": kind.card.model_dump(), "fields": fields}


def _show_all(found: dict[str, type[Plugin]]) -> None:
    from rich.table import Table

    table = Table("name", "kind", "published", "what it does", box=None, pad_edge=False)
    for name, kind in found.items():
        table.add_row(name, kind.kind, kind.card.venue, kind.card.goal)
    console().print(table)


def _show_one(name: str, kind: type[Plugin]) -> None:
    from rich.table import Table

    from freehold.report.numbers import setting

    card, out = kind.card, console()
    out.print(f"{name}: {card.title} ({kind.kind})")
    out.print(card.goal, soft_wrap=True)
    out.print(", ".join(filter(None, [card.paper, card.venue, card.identifier])), soft_wrap=True)
    for title, lines in (
        ("needs", card.needs),
        ("changed from the paper", card.changed),
        ("left open by the paper, decided here", card.undisclosed),
        ("known to break it", card.breaks),
    ):
        if lines:
            out.print(f"\n{title}")
        for line in lines:
            out.print(f"  - {line}", soft_wrap=True)
    out.print()
    table = Table("field", "type", "default", "unit", "range", "meaning", box=None, pad_edge=False)
    for field in kind.fields():
        default = repr(field.default) if isinstance(field.default, str) else setting(field.default)
        table.add_row(field.name, field.type, default, field.unit, field.range, field.description)
    out.print(table)
