"""The table of all attacks, from the registry into the documentation.

``python -m freehold.attacks.catalogue docs/attacks.md`` writes it between the page's marks.
"""

from __future__ import annotations

import sys
from pathlib import Path

from freehold.attacks.base import Attack
from freehold.plugin import BUILTIN, find

BEGIN, END = "<!-- table:begin -->\n", "<!-- table:end -->"


def attacks() -> dict[str, type[Attack]]:
    """Every attack of this package by name."""
    found = {name: find(name) for name in sorted(BUILTIN)}
    return {name: kind for name, kind in found.items() if issubclass(kind, Attack)}


def table() -> str:
    """One row an attack, as Markdown."""
    lines = ["| attack | what it is | has | made against | default | strong | source |", "|---" * 7 + "|"]
    for name, kind in attacks().items():
        plain = {field: value for field, value in kind().model_dump().items() if value is not None}
        cells = [f"`{name}`", kind.card.title, kind.access.name.lower(), f"{kind.prey} domain"]
        cells += [_setting(plain), _setting(kind.stronger), f"{kind.card.paper} ({kind.card.venue})"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _setting(fields: dict[str, object]) -> str:
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in fields.items()
    )


def write(page: Path) -> None:
    """Put the table between the marks of ``page``."""
    before, rest = page.read_text().split(BEGIN)
    page.write_text(before + BEGIN + table() + END + rest.split(END)[1])


if __name__ == "__main__":
    write(Path(sys.argv[1]))
