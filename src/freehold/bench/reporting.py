"""``freehold bench report``: a page and tables of what results there are."""

from __future__ import annotations

from pathlib import Path

from freehold.artifacts import write_file
from freehold.artifacts.files import writing
from freehold.bench.account import rows
from freehold.bench.formats import cells_csv, latex, markdown, rows_csv
from freehold.bench.page import page
from freehold.bench.runner import look
from freehold.bench.suite import Suite
from freehold.bench.tables import groups, matrices
from freehold.report.suite_page import render_suite


def write_report(suite: Suite, results: Path | str, out: Path | str) -> dict[str, Path]:
    """Write page and tables; cells that are missing or failed are shown as such.

    Args:
        suite: says which cells there should be.
        results: folder of the results.
        out: folder to write to.

    Returns:
        The files by what they are.

    Raises:
        ConfigError, ArtifactError: as :func:`freehold.bench.runner.run_suite`.
        OutputError: a file cannot be written.
    """
    out, found = Path(out), look(suite, results)
    counted = rows(found)
    tables = [
        (", ".join(name), table)
        for name, group in groups(counted).items()
        for table in matrices(group)
    ]  # fmt: skip
    texts = {
        "page": ("page.html", render_suite(page(suite, found, counted))),
        "cells": ("cells.csv", cells_csv(found)),
        "table": ("table.csv", rows_csv(counted)),
        "markdown": ("tables.md", markdown(suite.title, tables)),
        "latex": ("tables.tex", latex(tables)),
    }
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    for name, text in texts.values():
        write_file(out / name, text.encode())
    return {what: out / name for what, (name, _) in texts.items()}
