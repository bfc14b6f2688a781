"""``freehold export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from freehold.cli.common import Debug, Json, OwnModel, console, print_json, print_place, working
from freehold.cli.passphrases import PassphraseFile, passphrase

if TYPE_CHECKING:
    from freehold.evidence.released import Release


def export(
    run: Annotated[Path, typer.Argument(help="Run directory made by train, protect or watermark.")],
    out: Annotated[Path, typer.Argument(help="Folder to make, with all that customers get.")],
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Also write model.onnx, equal to the model within 1e-4.")
    ] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Also write model-int8.onnx, measured on the run's own data.")
    ] = False,
    one_graph: Annotated[
        bool,
        typer.Option(
            "--one-graph",
            help="In the ONNX files, number all names and mix the order of operations: they no longer tell "
            "PTYNet's branch from the model. The edges still do.",
        ),
    ] = False,
    key: Annotated[
        Path | None,
        typer.Option(
            help="Key of the marked model: nothing of it may be in the release, and its mark must be."
        ),
    ] = None,
    passphrase_file: PassphraseFile = None,
    claim: Annotated[
        Path | None,
        typer.Option(help="Signed claim on this run (see 'freehold claim'), to lie beside the weights."),
    ] = None,
    license_: Annotated[
        str, typer.Option("--license", help="Of the weights, as the model card names it.")
    ] = "other",
    model: OwnModel = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Publish a finished run for customers: weights, recipe, model card, hashes, and nothing of a key.

    The folder appears whole or not at all; killed on the way, the same command completes it.

    Exit code 0: published; 1: published, and a file of it does not carry the key's mark.
    """
    from freehold.evidence.release import export as run_it
    from freehold.keys import Key

    with working():
        opened = Key.load(key, passphrase(passphrase_file, new=False)) if key is not None else None
        release = run_it(
            run,
            out,
            onnx=onnx,
            int8=int8,
            one_graph=one_graph,
            key=opened,
            claim=claim,
            license=license_,
            uri=model,
        )
    if json:
        print_json(release.model_dump(mode="json"))
    else:
        _print(release)
    return 0 if release.carries_its_mark else 1


def _print(release: Release) -> None:
    from freehold.report.numbers import interval, percent, small

    out = console()
    if release.difference is not None:
        shown = small(release.difference) if release.difference else "0"
        out.print(f"model.onnx differs from the model by {shown} of the largest logit at most")
    if (cost := release.int8) is not None:
        before, after, same = cost.before, cost.after, cost.agreement
        out.print(
            f"model-int8.onnx gets {percent(after.value)} of {after.n} test images of {cost.domain} right "
            f"({interval(after.low, after.high)}), the model {percent(before.value)}; "
            f"they agree on {percent(same.value)} ({interval(same.low, same.high)})",
            soft_wrap=True,
        )
    for mark in release.marks:
        if mark.decision is None:
            out.print(f"{mark.file} hides the weights that the key asks for", soft_wrap=True)
        else:
            shown = f"{mark.matches} of {mark.trials} secret answers"
            out.print(f"{mark.file}: {mark.decision.value}, {shown}", soft_wrap=True)
    searched = "every file was searched for the key, and nothing of it was found"
    out.print(searched if release.searched else "no key was given to search for")
    print_place("release", release.directory, already=release.already)
