"""``freehold attack``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from freehold.cli.common import Debug, Json, OwnModel, console, print_json, print_table, working


def attack(
    run: Annotated[Path, typer.Argument(help="Run directory made by 'freehold protect'.")],
    name: Annotated[str, typer.Argument(help="Attack; 'freehold list' shows them.")],
    fields: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="KEY=VALUE", help="A field of the attack; repeatable."),
    ] = None,
    strong: Annotated[bool, typer.Option("--strong", help="Start from the strong setting.")] = False,
    data: Annotated[
        str | None,
        typer.Option(help="Images of the attacker: authorized, or the name of an unauthorized domain."),
    ] = None,
    model: OwnModel = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Attack a protected run and measure what comes back.

    The run stays as it is. Of an unauthorized domain the attacker gets validation images only, which no
    method trains on.
    """
    from freehold.attacks.base import Attack
    from freehold.config import parse_value
    from freehold.errors import UsageError
    from freehold.jobs.attacking import attack as run_attack
    from freehold.plugin import find

    kind = find(name)
    if not issubclass(kind, Attack):
        raise UsageError(f"{name!r} is no attack", where="attack", fix="see 'freehold list'")
    chosen: dict[str, Any] = dict(kind.stronger) if strong else {}
    for text in fields or ():
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError("a field is written key=value", where=f"--set {text}")
        chosen[key.strip()] = parse_value(value.strip())
    with working():
        report = run_attack(run, kind(**chosen), data=data, uri=model)
    if json:
        print_json(report.to_json())
        return 0
    out, cost = console(), report.record["cost"]
    out.print(
        f"{name} with {report.record['data']}: {cost['images']} images, {cost['queries']} queries, "
        f"{cost['steps']} steps, {cost['seconds']:.0f} s. Before: the released model. After: the attacked.\n",
        soft_wrap=True,
    )
    print_table(report.evaluation)
    return 0
