"""``freehold keygen``, ``freehold claim`` and ``freehold stamp``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from freehold.cli.common import Debug, Json, print_json, print_place, working
from freehold.cli.passphrases import (
    PassphraseFile,
    SigningPassphraseFile,
    passphrase,
    signing_passphrase,
)

if TYPE_CHECKING:
    from freehold.jobs.claiming import ClaimReport


def keygen(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="To write, such as signing.pem.")],
    signing_passphrase_file: SigningPassphraseFile = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Make a key to sign claims with: FILE is secret and encrypted, FILE.pub is to be published.

    Both are PEM files of an Ed25519 key, which OpenSSL reads as well.
    """
    from freehold.evidence.signature import PUBLIC, generate

    name = generate(file, signing_passphrase(signing_passphrase_file, new=True))
    if json:
        print_json({"key": str(file), "public": f"{file}{PUBLIC}", "fingerprint": name})
        return 0
    print_place("signing key (keep it and its passphrase)", file)
    print_place("public key (publish it)", Path(f"{file}{PUBLIC}"))
    print(f"fingerprint: {name}")
    return 0


def claim(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Marked run, or the folder of its release.")],
    key: Annotated[Path, typer.Argument(metavar="KEY", help="Key file of the mark.")],
    owner_key: Annotated[Path, typer.Option(help="PEM file of the key to sign with; see 'freehold keygen'.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Claim to write.")] = Path("claim.json"),
    alpha: Annotated[float, typer.Option(help="Level of the test that a verdict will rest on.")] = 1e-6,
    timestamp: Annotated[
        str | None, typer.Option(metavar="URL", help="Time-stamp authority (RFC 3161) to ask.")
    ] = None,
    oms_key: Annotated[
        Path | None,
        typer.Option(
            help="PEM file of an elliptic-curve key: sign the folder for OpenSSF model-signing too."
        ),
    ] = None,
    passphrase_file: PassphraseFile = None,
    signing_passphrase_file: SigningPassphraseFile = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Write a signed claim on a marked model: publish it, or have it time-stamped, before the release.

    It names the owner, the files, the method and the commitment to the key, and tells nothing of the key.
    """
    from freehold.evidence.signature import load_private
    from freehold.jobs.claiming import claim as run_claim
    from freehold.keys import Key

    with working():
        signer = load_private(owner_key, lambda: signing_passphrase(signing_passphrase_file, new=False))
        opened = Key.load(key, passphrase(passphrase_file, new=False))
        report = run_claim(run, opened, signer, out, alpha=alpha, authority=timestamp, oms_key=oms_key)
    return _told(report, json)


def stamp(
    file: Annotated[Path, typer.Argument(metavar="CLAIM", help="Claim that has no time stamp.")],
    source: Annotated[
        str,
        typer.Argument(metavar="URL|REPLY", help="Time-stamp authority to ask, or a file with its reply."),
    ],
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Add a time stamp (RFC 3161) to a claim."""
    from freehold.jobs.claiming import stamp as run

    with working():
        report = run(file, source)
    return _told(report, json)


def _told(report: ClaimReport, json: bool) -> int:
    if json:
        print_json(report.to_json())
        return 0
    terms = report.signed.claim.predicate
    files = len(report.signed.claim.subject)
    print(f"claim of {terms.owner or 'no named owner'} on {files} files, root {terms.root}")
    print(f"commitment {terms.commitment}")
    if report.moment:
        print(f"stamped {report.moment}")
    else:
        import hashlib

        digest = hashlib.sha256(report.signed.envelope.signature).hexdigest()
        print("no time stamp; 'freehold stamp CLAIM URL' asks for one, or takes the reply to")
        print(f"  openssl ts -query -sha256 -cert -digest {digest} -out claim.tsq")
    print_place("claim", report.path)
    return 0
