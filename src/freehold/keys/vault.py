"""A file that holds bytes under a passphrase: scrypt makes the key, AES-256-GCM encrypts and seals.

Layout: magic (8 bytes), version, log2 of scrypt's N, its r and p (1 byte each), salt (16), nonce (12),
ciphertext with its tag (16), and SHA-256 over all before (32). The digest tells damage from a wrong
passphrase; it needs no secret and protects from nothing else. Everything before the ciphertext is
authenticated by the tag.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path

from freehold.artifacts.files import sync, writing
from freehold.errors import ArtifactError, MissingInputError, OutputError, SecretError

MAGIC, VERSION = b"FRHLDKEY", 1
LOG2_N, R, P = 17, 8, 1  # 128 MiB and some 0.3 s a try (OWASP's advice for scrypt)
_SALT, _NONCE, _TAG, _DIGEST = 16, 12, 16, 32
_HEADER = len(MAGIC) + 4
_LARGEST = 1 << 30  # bytes
_CHEAPEST, _DEAREST = 14, 17  # a stranger's file may cost no more memory than our own


def write_vault(path: Path, data: bytes, passphrase: str, *, replace: bool = False) -> None:
    """Encrypt ``data`` into ``path``, mode 0600, whole or not at all.

    Raises:
        SecretError: the passphrase is empty.
        OutputError: there is a file already and ``replace`` is not set, or it cannot be written.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if not passphrase:
        raise SecretError("an empty passphrase protects nothing", where="passphrase")
    if path.exists() and not replace:  # before the seconds that scrypt takes
        raise _taken(path)
    salt, nonce = secrets.token_bytes(_SALT), secrets.token_bytes(_NONCE)
    head = MAGIC + bytes([VERSION, LOG2_N, R, P]) + salt + nonce
    sealed = head + AESGCM(_stretched(passphrase, salt, LOG2_N, R, P)).encrypt(nonce, data, head)
    if not write_private(path, sealed + hashlib.sha256(sealed).digest(), replace=replace):
        raise _taken(path)


def change_passphrase(path: Path, old: str, new: str) -> None:
    """Encrypt the content of ``path`` anew under ``new``; at every moment one of the two opens it.

    Copies made before open with the old passphrase still.

    Raises:
        SecretError: the old passphrase is wrong, the new one empty or the same.
        FreeholdError: as :func:`read_vault` and :func:`write_vault`.
    """
    data = read_vault(path, old)
    if new == old:
        raise SecretError("the new passphrase is the old one", where="passphrase", fix="choose another")
    write_vault(path, data, new, replace=True)


def read_vault(path: Path, passphrase: str) -> bytes:
    """What :func:`write_vault` encrypted.

    Raises:
        MissingInputError: there is no such file, or no permission to read it.
        ArtifactError: not a key file, truncated, altered, or of another version.
        SecretError: the passphrase is wrong.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    where, content = str(path), read_private(path, MAGIC)
    if not content.startswith(MAGIC):
        raise ArtifactError(
            "is no key file of freehold", where=where, fix="name the file that Key.save wrote"
        )
    if len(content) > _LARGEST or len(content) < _HEADER + _SALT + _NONCE + _TAG + _DIGEST:
        raise _damaged(where)
    version, log2_n, r, p = content[len(MAGIC) : _HEADER]
    if version != VERSION:
        raise ArtifactError(
            f"a key file of version {version}; this one reads version {VERSION}",
            where=where,
            fix="use the version of freehold that wrote it",
        )
    sealed, digest = content[:-_DIGEST], content[-_DIGEST:]
    if hashlib.sha256(sealed).digest() != digest or not (
        _CHEAPEST <= log2_n <= _DEAREST and r == R and p == P
    ):
        raise _damaged(where)
    start = _HEADER + _SALT + _NONCE
    head, salt, nonce = sealed[:start], sealed[_HEADER : _HEADER + _SALT], sealed[start - _NONCE : start]
    try:
        return AESGCM(_stretched(passphrase, salt, log2_n, r, p)).decrypt(nonce, sealed[start:], head)
    except InvalidTag:
        raise SecretError("the passphrase is wrong", where=where, fix="try another passphrase") from None


def _stretched(passphrase: str, salt: bytes, log2_n: int, r: int, p: int) -> bytes:
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    # surrogateescape: a passphrase from the environment or a terminal may be any bytes
    secret = passphrase.encode("utf-8", "surrogateescape")
    return Scrypt(salt=salt, length=32, n=1 << log2_n, r=r, p=p).derive(secret)


def read_private(path: Path, magic: bytes) -> bytes:
    """A file's content, no more than just above the largest size that is allowed.

    Of a file that does not begin with ``magic`` no more than its beginning.

    Raises:
        MissingInputError: there is no such file, or no permission to read it.
    """
    try:
        with path.open("rb") as file:
            begins = file.read(len(magic))
            return begins + file.read(_LARGEST + 1 - len(magic)) if begins == magic else begins
    except OSError as error:
        raise MissingInputError(f"cannot read the key: {error.strerror}", where=str(path)) from error


def write_private(path: Path, data: bytes, *, replace: bool = True) -> bool:
    """Like ``write_file``, but at no time can others read it; False if there is a file not to be replaced.

    Raises:
        OutputError: it cannot be written.
    """
    passing = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with writing(path):
        try:
            handle = os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if not replace and not _claimed(passing, path):
                return False
            passing.replace(path)
            sync(path.parent)
            return True
        finally:
            with suppress(OSError):
                passing.unlink()


def _claimed(passing: Path, path: Path) -> bool:
    """Whether ``path`` was free: of two who write at once only one can link it."""
    try:
        os.link(passing, path)
    except FileExistsError:
        return False
    except OSError:  # a disk without hard links, such as a memory stick: two at once are not told apart
        return not path.exists()
    return True


def _taken(path: Path) -> OutputError:
    return OutputError(
        "there is a file already, and a key that is lost cannot be made again",
        where=str(path),
        fix="choose another name",
    )


def _damaged(where: str) -> ArtifactError:
    return ArtifactError("the key file is truncated or damaged", where=where, fix="restore it from a backup")
