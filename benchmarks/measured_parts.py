"""What the sections of docs/measured.md share, and those on suites, evidence and speed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
SUITES = ("quick", "digits", "ownership", "forgery", "cifar", "paper")


def read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def percent(share: float, digits: int = 2) -> str:
    return f"{100 * share:.{digits}f} %"


def suites() -> str:
    text = ""
    for name in SUITES:
        path = RESULTS / "suites" / name / "report" / "tables.md"
        if path.exists():
            body = path.read_text().replace("\n## ", "\n#### ").replace("# ", "### ", 1)
            text += (
                f"\n`freehold bench report {name} --results benchmarks/results/suites/{name}` writes these "
                "tables and their page.\n\n"
                f"{body.rstrip()}\n"
            )
    return f"## Suites\n{text}" if text else ""


def bench() -> str:
    """Against its bars, what a suite costs beside its cells."""
    rows = []
    for part in ("run", "kept", "ray"):
        if found := read(RESULTS / f"bench-{part}.json"):
            rows += [
                [
                    what,
                    f"{found[what]:g}",
                    f"{bar['most']:g}",
                    "yes" if bar["holds"] else "no",
                    f"bench_overhead {part}",
                ]
                for what, bar in found["bars"].items()
            ]
    if not rows:
        return ""
    head = ["what", "figure", "at most", "holds", "bench_overhead"]
    return f"## What the bench costs\n\n{table(head, rows)}"


def speed() -> str:
    """The figures that have a bar; the others are on the page of the speed suite."""
    found = read(RESULTS / "speed.json")
    if not found:
        return ""
    rows = [
        [
            figure["name"],
            f"{figure['value']:.3g}",
            f"{'at least' if figure.get('at_least') else 'at most'} {figure['bar']:.3g}",
            "yes" if figure["holds"] else "no",
        ]
        for figures in found["groups"].values()
        for figure in figures
        if "bar" in figure
    ]
    return (
        "## Speed\n\n`make bench` measures these, and more that have no bar: [how](speed.md).\n\n"
        f"{table(['what', 'figure', 'bar', 'holds'], rows)}"
    )


def evidence() -> str:
    place = RESULTS / "evidence"
    rows: list[list[str]] = []
    if found := read(place / "flips.json"):
        flips = found["found"].values()
        total, missed = (sum(one[key] for one in flips) for key in ("flips", "missed"))
        rows.append(
            ["single-bit flips", f"{total:,} in {len(flips)} files, {missed} missed", "evidence_flips"]
        )
    if found := read(place / "kill.json"):
        for case, one in found.items():
            said = f"{one['absent']} absent, {one['whole']} whole; {one['completed']} completed by a rerun"
            rows.append([f"killed: {case}", f"{one['points']} points: {said}", "kill"])
    if found := read(place / "fuzz.json"):
        for case, one in found.items():
            said = f"{one['runs']:,} inputs in {one['seconds']:.0f} s, {one['growth_mib']} MiB more memory"
            rows.append([f"fuzzed: {case}", f"{said} ({one['engine']})", "fuzz"])
    if found := read(place / "speed.json"):
        rows += [
            [f"`{s['command']}`", f"{s['wall_s']:.2f} s, {s['cpu_s']:.2f} s of processor", "evidence_speed"]
            for s in found["steps"]
        ]
    for method in ("ptynet", "trigger-set"):
        if found := read(place / f"trace-{method}.json"):
            rows += [[f"trace, {method}: {what}", said, "trace"] for what, said in traced(found)]
    if not rows:
        return ""
    return f"## Evidence\n\n{table(['what', 'figure', 'script'], rows)}"


def traced(found: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """Of each group of suspects how many were named, rightly or not."""
    for group, cases in found.items():
        if not isinstance(cases, dict) or not all(
            isinstance(c, dict) and "decision" in c for c in cases.values()
        ):
            continue
        named = sum(case["decision"] == "MATCH" for case in cases.values())
        right = sum(case["decision"] == "MATCH" and case["customer"] == name for name, case in cases.items())
        yield group, f"{len(cases)} suspects, {named} named, {right} of them as the customer whose copy it is"
