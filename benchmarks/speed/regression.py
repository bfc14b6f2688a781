"""The committed figures: read, compared with, written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed.figures import Figure, Measurable

COMMITTED = Path(__file__).resolve().parents[1] / "results" / "speed.json"


class BadRecord(Exception):
    """The committed file cannot be compared with."""


def committed(path: Path) -> dict[str, float]:
    """Value of each figure by name; empty where nothing was committed yet.

    Raises:
        BadRecord: not such a file.
    """
    if not path.exists():
        return {}
    try:
        groups = json.loads(path.read_text())["groups"]
        return {figure["name"]: float(figure["value"]) for group in groups.values() for figure in group}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadRecord(f"{path} holds no figures of this suite; write it anew with --accept") from error


def measured(subject: Measurable, known: Mapping[str, float], *, quick: bool) -> list[Figure]:
    """The figures of ``subject``; measured once more if one is bad, since the machine may be shared."""
    found = subject.measure(quick)
    return subject.measure(quick) if complaints(found, known) else found


def complaints(figures: Sequence[Figure], known: Mapping[str, float]) -> list[str]:
    """A sentence on each figure that misses its bar or is worse than what was committed."""
    found = [
        f"{f.name}: {f.value:.4g} misses the bar of {'at least' if f.at_least else 'at most'} {f.bar:.4g}"
        for f in figures
        if not f.holds
    ]
    return found + [
        f"{f.name}: {f.value:.4g} is more than 15 % worse than the committed {known[f.name]:.4g}"
        for f in figures
        if f.name in known and f.worse_than(known[f.name])
    ]


def record(groups: Mapping[str, Sequence[Figure]], machine: Mapping[str, Any]) -> str:
    """As JSON."""
    listed = {title: [figure.to_json() for figure in figures] for title, figures in groups.items()}
    return json.dumps({"machine": dict(machine), "groups": listed}, indent=1) + "\n"
