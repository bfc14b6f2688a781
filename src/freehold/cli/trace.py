"""``freehold trace``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from freehold.cli.common import Debug, Json, OwnModel, console, print_json, print_place, working
from freehold.cli.passphrases import PassphraseFile, passphrase
from freehold.cli.verify import contact_options

if TYPE_CHECKING:
    from freehold.evidence.trace import Trace

SHOWN = 3  # copies beside the likeliest ones that are printed


def trace(
    suspect: Annotated[
        str,
        typer.Argument(metavar="SUSPECT", help="Run or checkpoint folder, .onnx file or http(s) address."),
    ],
    vault: Annotated[Path, typer.Argument(metavar="VAULT", help="Folder of the vault.")],
    commitments: Annotated[
        Path | None,
        typer.Option(help="File whose lines begin with the commitments published before the copies left."),
    ] = None,
    alpha: Annotated[
        float, typer.Option(help="Largest chance of naming anybody for a suspect that comes from no copy.")
    ] = 1e-6,
    classes: Annotated[int | None, typer.Option(help="Classes the suspect knows.")] = None,
    headers: Annotated[
        Path | None, typer.Option(help="Of an address: file of 'Name: value' lines to send.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Of an address: requests a second at most.")] = None,
    batch: Annotated[int | None, typer.Option(help="Of an address: images a request.")] = None,
    model: OwnModel = None,
    page: Annotated[Path | None, typer.Option(help="Write a page, which names customers.")] = None,
    passphrase_file: PassphraseFile = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Name the customer whose copy a suspect comes from, or nobody.

    p-values are corrected for the number of customers (Holm). Without --commitments each key counts as one
    of 2^64 that could have been tried.

    Exit code 0: one customer's mark was found; 1: none was, and each would have been; 2: inconclusive, also
    if two were found.
    """
    from freehold.errors import UsageError
    from freehold.jobs.tracing import trace_copy
    from freehold.keys import Vault
    from freehold.ownership.observation import Decision

    given = {"rate": rate, "batch": batch, "headers": headers}
    contact = {name: value for name, value in given.items() if value is not None}
    if contact and "://" not in suspect:
        raise UsageError("belongs to an address", where=f"--{next(iter(contact))}", fix="leave it out")
    with working():
        opened = Vault(vault, passphrase(passphrase_file, new=False))
        found = trace_copy(
            suspect,
            opened,
            alpha=alpha,
            commitments=commitments,
            classes=classes,
            uri=model,
            page=page,
            contact=contact_options(contact),
        )
    if json:
        print_json({**found.model_dump(mode="json"), "page": str(page) if page else None})
    else:
        _print(found)
        if page is not None:
            print_place("page", page)
    return {Decision.MATCH: 0, Decision.NO_MATCH: 1, Decision.INCONCLUSIVE: 2}[found.decision]


def _print(found: Trace) -> None:
    from freehold.ownership.observation import Decision
    from freehold.report.numbers import odds, small

    out = console()
    out.print(f"{found.decision.value}: {found.suspect}: {found.reason}.", soft_wrap=True)
    matching = sum(copy.verdict.decision == Decision.MATCH for copy in found.copies)
    for copy in found.copies[: matching + SHOWN]:
        verdict = copy.verdict
        out.print(
            f"  {copy.customer}: {verdict.matches} of {verdict.trials} secret answers, "
            f"p {small(verdict.p_value)}, adjusted {small(verdict.p_adjusted)}",
            soft_wrap=True,
        )
    if (more := len(found.copies) - matching - SHOWN) > 0:
        out.print(f"  and {more} customers with fewer")
    for name, why in found.left_out:
        out.print(f"  {name}: not asked, the suspect {why}", soft_wrap=True)
    if found.decision == Decision.MATCH:
        chance = odds(found.copies[0].verdict.p_adjusted)
        out.print(f"A model that comes from no copy leads to a name {chance}.", soft_wrap=True)
        out.print("How the copy left the customer, and whether it was his doing, is for others to judge.")
    out.print(
        f"level {small(found.alpha)} for {len(found.copies)} customers; {found.queries} images asked about"
    )
