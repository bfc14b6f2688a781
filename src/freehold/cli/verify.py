"""``freehold verify``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freehold.cli.common import Debug, Json, OwnModel, console, print_json, print_place, working
from freehold.cli.passphrases import PassphraseFile, SigningPassphraseFile, passphrase, signing_passphrase

if TYPE_CHECKING:
    from freehold.jobs.verifying import VerifyReport
    from freehold.ownership.verdict import Verdict

_CONTACT = ("timeout", "rate", "tries", "batch", "probabilities", "headers")  # options of addresses


def verify(
    suspects: Annotated[
        list[str],
        typer.Argument(
            metavar="SUSPECT... KEY",
            help="Run or checkpoint folders, .onnx files or http(s) addresses; at the end the key file.",
        ),
    ],
    commitment: Annotated[
        str | None,
        typer.Option(metavar="HEX", help="Of the key, as it was published before the model was released."),
    ] = None,
    claim: Annotated[Path | None, typer.Option(help="Claim that holds the commitment and the level.")] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(help="On a match, write all the evidence to this .zip; it holds the key in the open."),
    ] = None,
    examiner_key: Annotated[
        Path | None, typer.Option(help="PEM file of the key of who asks, to sign the bundle with.")
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(help="Largest chance of a MATCH for an innocent suspect; 1e-6, or as in the claim."),
    ] = None,
    sequential: Annotated[
        bool, typer.Option("--sequential", help="Stop asking as soon as the case is clear.")
    ] = False,
    classes: Annotated[
        int | None, typer.Option(help="Classes the suspect knows; as many as the marked model by default.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Of an address: seconds a request may take; 10 by default.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Of an address: requests a second at most; 10 by default.")
    ] = None,
    tries: Annotated[
        int | None, typer.Option(help="Of an address: how often a request is sent; 3 by default.")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Of an address: images a request; 16 by default.")] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Of an address: it gives probabilities, not labels.")
    ] = False,
    headers: Annotated[
        Path | None,
        typer.Option(help="Of an address: file of 'Name: value' lines to send, such as Authorization."),
    ] = None,
    model: OwnModel = None,
    passphrase_file: PassphraseFile = None,
    signing_passphrase_file: SigningPassphraseFile = None,
    page: Annotated[Path | None, typer.Option(help="Write a page about the verdict.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Put suspects to a key's secret questions: is it the marked model, or made from it?

    Several suspects are corrected for their number (Holm). Without --commitment a key counts as one of
    2^64 that could have been tried, which asks for more matches.

    Exit code 0: MATCH (of several suspects: at least one matches); 1: NO_MATCH; 2: INCONCLUSIVE;
    76: a suspect did not answer, or not with an answer, and none matches.
    """
    from freehold.errors import SuspectError, UsageError
    from freehold.evidence.signature import load_private
    from freehold.jobs.verifying import verify as run
    from freehold.keys import Key
    from freehold.ownership.observation import Decision

    *named, file = suspects
    if not named:
        raise UsageError("name a suspect, then the key file", where="verify", fix="verify SUSPECT KEY")
    given = dict(zip(_CONTACT, (timeout, rate, tries, batch, probabilities or None, headers), strict=True))
    contact = {name: value for name, value in given.items() if value is not None}
    if contact and not any("://" in one for one in named):
        raise UsageError("belongs to an address", where=f"--{next(iter(contact))}", fix="leave it out")
    if examiner_key is not None and bundle is None:
        raise UsageError("signs a bundle", where="--examiner-key", fix="give --bundle as well")
    with working():
        examiner = None
        if examiner_key is not None:
            examiner = load_private(
                examiner_key, lambda: signing_passphrase(signing_passphrase_file, new=False)
            )
        key = Key.load(file, passphrase(passphrase_file, new=False))
        report = run(
            named,
            key,
            alpha=alpha,
            commitment=commitment,
            claim=claim,
            bundle=bundle,
            examiner=examiner,
            sequential=sequential,
            classes=classes,
            uri=model,
            page=page,
            contact=contact_options(contact),
        )
    if json:
        print_json(report.to_json())
    else:
        _print(report)
    failed = [verdict for verdict in report.verdicts if verdict.failure]
    if failed and report.decision != Decision.MATCH:
        raise SuspectError(failed[0].failure, where=failed[0].suspect)
    return {Decision.MATCH: 0, Decision.NO_MATCH: 1, Decision.INCONCLUSIVE: 2}[report.decision]


def print_verdict(verdict: Verdict) -> None:
    """A verdict for people, its sentence first."""
    from freehold.jobs.verifying import in_words
    from freehold.report.numbers import interval, small

    out = console()
    out.print(f"{verdict.decision.value}: {in_words(verdict)}", soft_wrap=True)
    if verdict.trials:
        shown = f"p {small(verdict.p_value)}"
        if verdict.p_adjusted > verdict.p_value:
            shown += f", adjusted {small(verdict.p_adjusted)}"
        bounds = interval(verdict.low, verdict.high)
        out.print(
            f"  {shown}, level {small(verdict.alpha)}; {verdict.null} null: {verdict.why}", soft_wrap=True
        )
        out.print(f"  share {bounds} (95 % interval); {verdict.queries} images asked about", soft_wrap=True)
        for name, matches, trials in verdict.parts:
            out.print(f"    {name}: {matches} of {trials}", soft_wrap=True)
    for caveat in verdict.caveats:
        out.print(f"  note: {caveat}", soft_wrap=True)


def _print(report: VerifyReport) -> None:
    for verdict in report.verdicts:
        print_verdict(verdict)
    first = report.verdicts[0]
    console().print(
        f"key of {first.owner or 'no named owner'}, {first.method}, commitment {first.commitment}",
        soft_wrap=True,
    )
    if report.page is not None:
        print_place("page", report.page)
    if report.bundle is not None:
        print_place("bundle (holds the key in the open: for whoever has to judge)", report.bundle)


def contact_options(contact: dict[str, Any]) -> dict[str, Any]:
    """The options of an address as the library takes them."""
    from freehold.errors import MissingInputError, UsageError
    from freehold.plugin import Access

    options = {name: value for name, value in contact.items() if name not in ("probabilities", "headers")}
    if "probabilities" in contact:
        options["access"] = Access.PROBABILITIES
    if (path := contact.get("headers")) is not None:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "is no text"
            raise MissingInputError(f"cannot be read: {reason}", where=str(path)) from None
        pairs = [line.partition(":") for line in lines if line.strip()]
        if not all(
            colon and re.fullmatch(r"[\w-]+", name, re.ASCII) and value.isascii() and value.isprintable()
            for name, colon, value in pairs
        ):  # what is sent would otherwise be shown in an error
            raise UsageError("each line is 'Name: value' in ASCII", where=str(path))
        options["headers"] = {name: value.strip() for name, _, value in pairs}
    return options
