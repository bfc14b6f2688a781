"""A customer's secret, derived from the owner's: who sees one learns nothing about any other."""

from __future__ import annotations

import unicodedata

from freehold.errors import UsageError

SECRET_BYTES = 32
_DOMAIN = b"freehold/customer/1\0"


def customers_secret(secret: bytes, owner: str, name: str) -> tuple[bytes, str]:
    """HKDF-SHA-256 over an owner's secret, his name and the customer's.

    Args:
        secret: the owner's, 32 bytes.
        owner: his name.
        name: the customer's.

    Returns:
        The customer's secret, and the name by which he is known: two spellings of one text are one name.

    Raises:
        UsageError: a name that is empty, not one line or longer than 200 characters.
    """
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    known_by = unicodedata.normalize("NFC", name)
    if not known_by.strip() == known_by or not 0 < len(known_by) <= 200 or not known_by.isprintable():
        raise UsageError(
            f"{name[:40]!r} is no name of a customer",
            where="customer",
            fix="one line of 1 to 200 characters without spaces around it",
        )
    parts = [part.encode() for part in (owner, known_by)]
    info = _DOMAIN + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return HKDF(algorithm=SHA256(), length=SECRET_BYTES, salt=None, info=info).derive(secret), known_by
