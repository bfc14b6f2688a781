"""Signing keys: Ed25519 in PEM files that OpenSSL reads as well."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from freehold.artifacts.files import write_file
from freehold.errors import ArtifactError, MissingInputError, OutputError, SecretError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_LARGEST = 1 << 16  # bytes of a PEM file
PUBLIC = ".pub"


def generate(path: Path, passphrase: str) -> str:
    """A new signing key: the private half encrypted at ``path``, mode 0600, the public one at ``path.pub``.

    Args:
        path: such as ``signing.pem``.
        passphrase: needed to sign.

    Returns:
        The fingerprint, see :func:`key_id`.

    Raises:
        OutputError: one of the files exists, or cannot be written.
        SecretError: the passphrase is empty.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from freehold.keys.vault import write_private

    if not passphrase:
        raise SecretError("an empty passphrase protects nothing", where="passphrase")
    public = path.with_name(path.name + PUBLIC)
    if taken := next((p for p in (path, public) if p.exists()), None):
        raise OutputError("there is a file already", where=str(taken), fix="choose another name")
    key = Ed25519PrivateKey.generate()
    lock = serialization.BestAvailableEncryption(passphrase.encode("utf-8", "surrogateescape"))
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    write_private(path, key.private_bytes(pem, form, lock))
    subject = serialization.PublicFormat.SubjectPublicKeyInfo
    write_file(public, key.public_key().public_bytes(pem, subject))
    return key_id(public_bytes(key))


def load_private(path: Path, passphrase: Callable[[], str]) -> Ed25519PrivateKey:
    """The private key in a PEM file.

    Args:
        path: PKCS #8, encrypted or not.
        passphrase: asked only if the file is encrypted.

    Raises:
        MissingInputError: there is no such file.
        ArtifactError: it holds no Ed25519 key.
        SecretError: the passphrase is wrong.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    pem = _read(path)
    locked = b"ENCRYPTED" in pem
    secret = passphrase().encode("utf-8", "surrogateescape") if locked else None
    try:
        key = load_pem_private_key(pem, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        if locked:
            raise SecretError("the passphrase is wrong, or the file is damaged", where=str(path)) from None
        raise _foreign(path, "private") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _foreign(path, "private")
    return key


def load_public(path: Path) -> bytes:
    """The 32 bytes of the public key in a PEM file.

    Raises:
        MissingInputError: there is no such file.
        ArtifactError: it holds no Ed25519 key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(_read(path))
    except (ValueError, UnsupportedAlgorithm):
        raise _foreign(path, "public") from None
    if not isinstance(key, Ed25519PublicKey):
        raise _foreign(path, "public")
    return key.public_bytes_raw()


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """The 32 bytes of the public half."""
    return key.public_key().public_bytes_raw()


def key_id(public: bytes) -> str:
    """Fingerprint of a public key: SHA-256 (hex) of its 32 bytes."""
    return hashlib.sha256(public).hexdigest()


def holds(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether ``signature`` of ``message`` is by the holder of the private half of ``public``."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST)
    except OSError as error:
        raise MissingInputError(f"cannot be read: {error.strerror}", where=str(path)) from None


def _foreign(path: Path, half: str) -> ArtifactError:
    return ArtifactError(
        f"holds no {half} Ed25519 key in PEM", where=str(path), fix="make one with 'freehold keygen'"
    )
