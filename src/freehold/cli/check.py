"""``freehold check``."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from freehold.cli.common import Debug, Json, OwnModel, console, print_json, print_place, working


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Claim, or bundle of evidence.")],
    signer: Annotated[
        Path | None,
        typer.Option(metavar="PEM", help="Public key of the owner, from elsewhere than the claim."),
    ] = None,
    tsa_root: Annotated[
        Path | None, typer.Option(metavar="PEM", help="Root certificate of the time-stamp authority.")
    ] = None,
    before: Annotated[
        datetime | None, typer.Option(help="The claim has to be shown to be older (UTC).")
    ] = None,
    release: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Released model, to be compared with the claim.")
    ] = None,
    examiner: Annotated[
        Path | None,
        typer.Option(metavar="PEM", help="Public key of who asked the suspect and signed for it."),
    ] = None,
    suspect: Annotated[
        str | None, typer.Option(metavar="SUSPECT", help="Ask the suspect again: folder, .onnx or address.")
    ] = None,
    model: OwnModel = None,
    page: Annotated[Path | None, typer.Option(help="Write a page about what was found.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Compute everything in a claim or a bundle of evidence again, offline, and say which links hold.

    Exit code 0: every link holds, and a bundle's verdict is MATCH; 1: a link fails, or NO_MATCH; 2: a link is
    open, since something is missing that only you can add, or the verdict is INCONCLUSIVE; 65: the file is
    damaged, or none.
    """
    from freehold.errors import UsageError
    from freehold.evidence.check import Known, State
    from freehold.evidence.signature import load_public
    from freehold.evidence.timestamp import read_roots
    from freehold.jobs.checking import check as run

    if before is not None and tsa_root is None:
        raise UsageError("only a time stamp shows that", where="--before", fix="give --tsa-root as well")
    known = Known(
        signer=None if signer is None else load_public(signer),
        roots=None if tsa_root is None else read_roots(tsa_root),
        before=None if before is None else _utc(before),
        release=release,
        examiner=None if examiner is None else load_public(examiner),
    )
    with working():
        report = run(file, known, suspect=suspect, uri=model, page=page)
    if json:
        print_json(report.to_json())
        return _CODES[report.state.value]
    from freehold.jobs.checking import UNSHOWN, sentence

    out, terms = console(), report.claim.claim.predicate
    for link in report.checked.links:
        mark = {State.HOLDS: "holds", State.FAILS: "FAILS", State.OPEN: "open "}[link.state]
        out.print(f"{mark}  {link.name}: {link.says}", soft_wrap=True)
    out.print(f"{sentence(report.checked.links)} Claim of {terms.owner or 'no named owner'}, {terms.method}.")
    if report.concluded is not None:
        from freehold.cli.verify import print_verdict

        print_verdict(report.concluded)
        for line in UNSHOWN:
            out.print(f"  not shown: {line}", soft_wrap=True)
    if report.page is not None:
        print_place("page", report.page)
    return _CODES[report.state.value]


_CODES = {"holds": 0, "fails": 1, "open": 2}


def _utc(moment: datetime) -> datetime:
    from datetime import UTC

    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
