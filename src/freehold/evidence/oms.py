"""The OpenSSF's signature over a model's folder (OMS), made by sigstore's model-signing with a key file.

It says who published these bytes, to anybody who has that tool, and nothing about marks. Needs the extra
``[sign]`` and a key on an elliptic curve (P-256, P-384 or P-521), since that is what the format knows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from freehold.errors import ArtifactError, MissingDependencyError, MissingInputError, OutputError, SecretError


def sign_folder(folder: Path, key: Path, out: Path) -> None:
    """Sign every file in ``folder``.

    Args:
        folder: the model.
        key: private key in PEM, not encrypted.
        out: the signature's file, outside of the folder.

    Raises:
        MissingInputError: no such folder or key.
        SecretError: the key cannot be used: encrypted, or another kind of key.
        OutputError: ``out`` exists, or cannot be written.
        MissingDependencyError: the extra is not installed.
    """
    signing, _ = _library()
    _there(folder, key)
    if out.exists():
        raise OutputError("there is a file already", where=str(out), fix="choose another name")
    try:
        signer = signing.Config().use_elliptic_key_signer(private_key=key)
    except (ValueError, TypeError, AttributeError) as error:
        raise SecretError(f"cannot be used to sign: {error!s:.120}", where=str(key)) from None
    try:
        signer.sign(folder, out)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", where=str(out)) from None


def verify_folder(folder: Path, signature: Path, key: Path) -> None:
    """Check a folder against its signature: every file, none missing and none added.

    Args:
        folder: the model.
        signature: as :func:`sign_folder` wrote it.
        key: public key in PEM.

    Raises:
        MissingInputError: one of them is not there.
        ArtifactError: it does not hold.
        MissingDependencyError: the extra is not installed.
    """
    _, verifying = _library()
    _there(folder, signature, key)
    try:
        verifying.Config().use_elliptic_key_verifier(public_key=key).verify(folder, signature)
    except Exception as error:  # a hostile file makes the library raise anything
        raise ArtifactError(f"the signature does not hold: {error!s:.200}", where=str(signature)) from None


def _there(*paths: Path) -> None:
    for path in paths:
        if not path.exists():
            raise MissingInputError("is not there", where=str(path))


def _library() -> tuple[Any, Any]:
    try:
        from model_signing import signing, verifying
    except ImportError:
        raise MissingDependencyError(
            "signing a folder needs model-signing", where="oms", fix="pip install 'freehold[sign]'"
        ) from None
    return signing, verifying
