"""``freehold watermark``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from freehold.cli.common import ConfigFile, Debug, Json, Out, Overrides, print_measured, print_place, working
from freehold.cli.passphrases import PassphraseFile, passphrase


def watermark(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="[CONFIG|RUN]",
            help="TOML file, or a run directory whose model is to be marked with trigger-set.",
        ),
    ] = None,
    config: ConfigFile = None,
    set_: Overrides = None,
    out: Out = None,
    key: Annotated[
        Path | None,
        typer.Option(
            help="Key file to write, by default NAME.key beside the run; with --customer the vault."
        ),
    ] = None,
    owner: Annotated[str, typer.Option(help="Whose the key is; becomes part of it.")] = "",
    customer: Annotated[
        str,
        typer.Option(metavar="NAME", help="Mark this customer's copy with a key of its own from the vault."),
    ] = "",
    passphrase_file: PassphraseFile = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Mark a trained model so that it can be shown to be yours; write its key, encrypted, beside the run.

    Publish the commitment that is printed before you release the model, and keep key and passphrase: there
    is no other way to verify.

    Exit code 0: the marked model matches its key and all claims hold; 1: it does not, or one does not hold.
    """
    from functools import partial

    from freehold.config import from_json, load_config, override
    from freehold.errors import UsageError
    from freehold.jobs.assembly import default_directory
    from freehold.jobs.marking import config_of_run
    from freehold.jobs.marking import watermark as run
    from freehold.ownership.observation import Decision

    if source is not None and config is not None:
        raise UsageError("a configuration is given twice", where="--config", fix="leave one out")
    if customer and key is None:
        raise UsageError(
            "a customer's key comes from a vault", where="--key", fix="name it; 'freehold key new' makes one"
        )
    with working():
        if source is not None and source.is_dir():
            loaded = from_json(override(config_of_run(source), set_ or []))
        else:
            loaded = load_config(source or config, set_ or [])
        directory = out or default_directory(loaded, "watermark")
        file = key or directory.with_name(f"{directory.name}.key")
        asked = partial(_passphrase, passphrase_file)
        report = run(loaded, directory, file, asked, owner=owner, customer=customer)
    code = print_measured(report, as_json=json)
    shows = report.verdicts[0].decision == Decision.MATCH
    if not json:
        if not shows:
            print("note: the mark does not show yet; it may need more steps or more weight")
        print_place("vault" if customer else "key (keep it and its passphrase)", report.key)
        print(f"commitment (publish it before the model): {report.commitment}")
    return code if shows else 1


def _passphrase(file: Path | None, new: bool) -> str:
    return passphrase(file, new=new)
