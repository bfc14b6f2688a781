"""Tables as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from freehold.bench.account import Row, figures
from freehold.bench.runner import Summary
from freehold.bench.tables import undone
from freehold.report.suite import Entry, Matrix


def markdown(title: str, tables: Iterable[tuple[str, Matrix]]) -> str:
    """All tables as one Markdown document."""
    lines = [f"# {title}", ""]
    for group, table in tables:
        lines += [f"## {group}: {table.title}", "", table.caption, ""]
        lines += ["| " + " | ".join([table.corner, *table.columns]) + " |"]
        lines += ["|---" * (len(table.columns) + 1) + "|"]
        lines += ["| " + " | ".join(map(_piped, [name, *map(_flat, es)])) + " |" for name, es in table.rows]
        lines.append("")
    return "\n".join(lines)


def _flat(entry: Entry) -> str:
    """An entry in one line; why something failed stands elsewhere."""
    small = entry.small if entry.state in ("done", "partial") else ""
    mark = "*" if entry.state == "partial" else ""
    return f"{entry.text}{mark}" + (f" ({small})" if small else "")


def _piped(text: str) -> str:
    return text.replace("|", "\\|")


def latex(tables: Iterable[tuple[str, Matrix]]) -> str:
    """All tables as LaTeX; needs the package booktabs."""
    lines = ["% needs \\usepackage{booktabs}"]
    for group, table in tables:
        columns = "l" + "r" * len(table.columns)
        lines += [
            "\\begin{table}",
            "\\centering",
            f"\\caption{{{_tex(f'{group}: {table.title}. {table.caption}')}}}",
        ]
        lines += [f"\\begin{{tabular}}{{{columns}}}", "\\toprule"]
        lines += [" & ".join(map(_tex, [table.corner, *table.columns])) + " \\\\", "\\midrule"]
        lines += [" & ".join(map(_tex, [name, *map(_flat, es)])) + " \\\\" for name, es in table.rows]
        lines += ["\\bottomrule", "\\end{tabular}", "\\end{table}", ""]
    return "\n".join(lines)


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "→": r"$\to$", "±": r"$\pm$",
    "−": r"$-$", "–": "--", "×": r"$\times$", "|": r"\textbar{}", "\u00a0": "~", "<": r"$<$", ">": r"$>$",
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text)


def rows_csv(rows: Iterable[Row]) -> str:
    """One line a row and figure: mean, interval, seeds."""
    head = ["block", "pair", "model", "method", "trial", "done", "seeds", "figure", "mean", "low", "high"]
    lines: list[list[object]] = []
    for row in rows:
        about: list[object] = [row.block, row.pair, row.model, row.method, row.trial]
        about += [row.states["done"], row.seeds]
        if not row.figures:
            lines.append([*about, undone(row).text if not row.states["done"] else "", "", "", ""])
        lines += [[*about, name, f.mean, f.low, f.high] for name, f in row.figures.items()]
    return _csv(head, lines)


def cells_csv(found: Summary) -> str:
    """One line a cell of the suite, missing ones included."""
    plans = [(one, found.outcomes.get(one.cell.name)) for one in found.plans]
    measured = [figures(o.result) if o and o.result else {} for _, o in plans]
    names = list(dict.fromkeys(name for one in measured for name in one))
    head = ["cell", "block", "pair", "model", "method", "trial", "seed", "state", "decision", *names, "error"]
    lines = []
    for (one, outcome), values in zip(plans, measured, strict=True):
        verdict = (outcome.result or {}).get("verdict") if outcome else None
        lines.append(
            [one.cell.name, one.block, one.pair, one.model, one.method, one.trial, one.seed, found.state(one),
             verdict["decision"] if verdict else "", *(values.get(name, "") for name in names),
             outcome.error if outcome else ""]
        )  # fmt: skip
    return _csv(head, lines)


def _csv(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(lines)
    return text.getvalue()
