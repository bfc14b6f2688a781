"""``freehold key``: vaults, and passphrases of key files and vaults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from freehold.cli.common import Debug, Json, console, print_json, print_place
from freehold.cli.passphrases import NEW_VARIABLE, PassphraseFile, passphrase

app = typer.Typer(
    rich_markup_mode=None,
    help="Keep keys: a vault for customers' copies, a new passphrase.",
    no_args_is_help=True,
)
VaultFolder = Annotated[Path, typer.Argument(metavar="VAULT", help="Folder of the vault.")]


@app.command("new")
def new(
    vault: VaultFolder,
    owner: Annotated[str, typer.Option(help="Whose it is; becomes part of every key.")] = "",
    passphrase_file: PassphraseFile = None,
    debug: Debug = False,
) -> None:
    """Make a vault: one master key, from which each customer's key is derived."""
    from freehold.keys import Vault

    made = Vault.create(vault, passphrase(passphrase_file, new=True), owner)
    print_place("vault (keep it, a copy of it, and its passphrase)", made.path)


@app.command("list")
def customers(
    vault: VaultFolder, passphrase_file: PassphraseFile = None, json: Json = False, debug: Debug = False
) -> None:
    """Show each customer of a vault with the commitment of his copy."""
    from freehold.keys import Vault

    opened = Vault(vault, passphrase(passphrase_file, new=False))
    found = opened.keys()
    if json:
        copies = [
            {"customer": name, "method": key.method, "commitment": key.commitment}
            for name, key in found.items()
        ]
        print_json({"owner": opened.owner, "copies": copies})
        return
    out = console()
    for name, key in found.items():
        out.print(f"{key.commitment}  {key.method}  {name}", soft_wrap=True)
    out.print(f"{len(found)} copies of {opened.owner or 'no named owner'}")


@app.command("export")
def export(
    vault: VaultFolder,
    customer: Annotated[str, typer.Argument(help="Whose copy the key marks.")],
    out: Annotated[
        Path, typer.Argument(metavar="FILE", help="Key file to write, under the same passphrase.")
    ],
    passphrase_file: PassphraseFile = None,
    debug: Debug = False,
) -> None:
    """Write one customer's key to a key file of its own, for verify and for evidence.

    Whoever is shown it learns nothing about the master key or the copies of others.
    """
    from freehold.keys import Vault

    secret = passphrase(passphrase_file, new=False)
    Vault(vault, secret).key(customer).save(out, secret)
    print_place("key", out)


@app.command("rotate")
def rotate(
    file: Annotated[Path, typer.Argument(metavar="KEY|VAULT", help="Key file, or folder of a vault.")],
    passphrase_file: PassphraseFile = None,
    new_passphrase_file: Annotated[
        Path | None,
        typer.Option(
            help=f"File whose first line is the new passphrase; else {NEW_VARIABLE}, else asked for."
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Give a key file or a vault a new passphrase; the key itself stays as it is.

    Copies that were made before still open with the old passphrase: replace them too.
    """
    from freehold.keys.customers import MASTER
    from freehold.keys.vault import change_passphrase

    place = file / MASTER if file.is_dir() else file
    old = passphrase(passphrase_file, new=False)
    new = passphrase(
        new_passphrase_file,
        new=True,
        variable=NEW_VARIABLE,
        what="the key from now on",
        option="new-passphrase",
    )
    change_passphrase(place, old, new)
    print_place("new passphrase", file)
