"""Trusted time (RFC 3161): an authority's word that a signature existed at a moment.

What is stamped is the 64 bytes of a signature. Needs the extra ``[sign]``.
"""

from __future__ import annotations

import hashlib
import http.client
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit

from freehold.errors import ArtifactError, MissingDependencyError, MissingInputError, UsageError

LARGEST = 48 << 10  # bytes of a reply
_PATIENCE = 30.0  # seconds


def ask(url: str, signature: bytes) -> bytes:
    """An authority's reply about ``signature``, DER.

    Raises:
        UsageError: not an ``http(s)://`` address.
        MissingInputError: no reply.
        ArtifactError: a reply that is no stamp of this signature.
        MissingDependencyError: the extra is not installed.
    """
    client = _client()
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise UsageError("is no address to ask", where="timestamp", fix="http(s)://host/path")
    wanted = (
        client.TimestampRequestBuilder().data(signature).nonce(nonce=True).cert_request(cert_request=True)
    )
    query = wanted.build()
    request = urllib.request.Request(
        url, query.as_bytes(), {"Content-Type": "application/timestamp-query"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE) as response:
            reply: bytes = response.read(LARGEST + 1)
    except (URLError, OSError, http.client.HTTPException, ValueError) as error:
        raise MissingInputError(
            f"the time-stamp authority gives no reply: {error!s:.120}",
            where=url,
            fix="ask another one, or stamp the claim later with 'freehold stamp'",
        ) from None
    stamped_at(reply, signature, where=url)
    if _decoded(reply, url).tst_info.nonce != query.nonce:
        raise ArtifactError("answers another question", where=url)
    return reply


def stamped_at(reply: bytes, signature: bytes, *, where: str) -> datetime:
    """The moment that a reply names; who says so is not established here, see :func:`shown_at`.

    Raises:
        ArtifactError: not a granted stamp, or of something else.
        MissingDependencyError: the extra is not installed.
    """
    found = _decoded(reply, where)
    try:
        imprint, moment = found.tst_info.message_imprint, found.tst_info.gen_time
        kinds = {"2.16.840.1.101.3.4.2.1": "sha256", "2.16.840.1.101.3.4.2.3": "sha512"}
        kind = kinds.get(imprint.hash_algorithm.dotted_string)
        fits = kind is not None and hashlib.new(kind, signature).digest() == imprint.message
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"is no time stamp: {error!s:.80}", where=where) from None
    if found.status != 0:
        raise ArtifactError("the time-stamp authority refused", where=where)
    if not fits:
        raise ArtifactError("the time stamp is of something else", where=where)
    return datetime.fromtimestamp(moment.timestamp(), UTC)


def shown_at(reply: bytes, signature: bytes, roots: bytes, *, where: str) -> datetime:
    """The moment at which the signature existed, on the word of an authority that ``roots`` vouch for.

    Args:
        reply: DER.
        signature: that was stamped.
        roots: certificates in PEM that are trusted for this.
        where: what errors call the reply.

    Raises:
        ArtifactError: the reply does not hold, or is vouched for by somebody else.
        MissingDependencyError: the extra is not installed.
    """
    from cryptography import x509

    client = _client()
    moment = stamped_at(reply, signature, where=where)
    try:
        builder = client.VerifierBuilder(roots=x509.load_pem_x509_certificates(roots))
        builder.build().verify_message(_decoded(reply, where), signature)
    except (client.VerificationError, ValueError) as error:
        raise ArtifactError(f"the time stamp does not hold: {error!s:.120}", where=where) from None
    return moment


def read_roots(path: Path) -> bytes:
    """Certificates in PEM.

    Raises:
        MissingInputError: there is no such file.
        ArtifactError: it holds none.
    """
    from cryptography import x509

    try:
        with path.open("rb") as file:
            pem = file.read(1 << 20)
        x509.load_pem_x509_certificates(pem)
    except OSError as error:
        raise MissingInputError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except ValueError:
        raise ArtifactError("holds no certificates in PEM", where=str(path)) from None
    return pem


def _decoded(reply: bytes, where: str) -> Any:
    if len(reply) > LARGEST:
        raise ArtifactError(f"has more than {LARGEST} bytes", where=where)
    try:
        return _client().decode_timestamp_response(reply)
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"is no time-stamp reply: {error!s:.80}", where=where) from None


def _client() -> Any:
    try:
        import rfc3161_client
    except ImportError:
        raise MissingDependencyError(
            "time stamps need rfc3161-client", where="timestamp", fix="pip install 'freehold[sign]'"
        ) from None
    return rfc3161_client
