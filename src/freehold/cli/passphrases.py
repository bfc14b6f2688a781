"""Where a passphrase comes from: a file, the environment, or the person in front of the screen.

Never an argument, which every user of the machine could read.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

VARIABLE, SIGNING = "FREEHOLD_PASSPHRASE", "FREEHOLD_SIGNING_PASSPHRASE"
NEW_VARIABLE = "FREEHOLD_NEW_PASSPHRASE"  # that a key is to have from now on
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        help=f"File whose first line is the passphrase of the key; else {VARIABLE}, else it is asked for."
    ),
]
SigningPassphraseFile = Annotated[
    Path | None,
    typer.Option(
        help=f"File whose first line is the passphrase of the signing key; else {SIGNING}, else asked."
    ),
]


def passphrase(
    file: Path | None,
    *,
    new: bool,
    variable: str = VARIABLE,
    what: str = "the key",
    option: str = "passphrase",
) -> str:
    """The passphrase of a key.

    Args:
        file: its first line is the passphrase.
        new: of a key that is made now; asked for twice.
        variable: of the environment, where no file is given.
        what: it opens, for who is asked.
        option: that names the file.

    Raises:
        MissingInputError: the file cannot be read.
        SecretError: none was given, or the two are not the same.
    """
    from freehold.errors import MissingInputError, SecretError

    if file is not None:
        try:
            text = file.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            raise MissingInputError(f"cannot be read: {error.strerror}", where=str(file)) from None
        return text.partition("\n")[0].removesuffix("\r")
    if (given := os.environ.get(variable)) is not None:
        return given
    if not sys.stdin.isatty():
        raise SecretError(
            "nobody to ask for the passphrase",
            where="passphrase",
            fix=f"give --{option}-file or set {variable}",
        )
    from getpass import getpass

    typed = getpass(f"Passphrase of {what}: ")
    if new and getpass("The same again: ") != typed:
        raise SecretError("the two passphrases are not the same", where="passphrase")
    return typed


def signing_passphrase(file: Path | None, *, new: bool) -> str:
    """As :func:`passphrase`, of a signing key."""
    return passphrase(file, new=new, variable=SIGNING, what="the signing key", option="signing-passphrase")
