"""``freehold trace``: a suspect against the copies of all customers of a vault."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from freehold.errors import MissingInputError, UsageError
from freehold.evidence.trace import Trace, trace
from freehold.jobs.verifying import open_suspect
from freehold.keys import Vault
from freehold.ownership.base import method_of


def trace_copy(
    suspect: str,
    vault: Vault,
    *,
    alpha: float = 1e-6,
    commitments: str | Path | None = None,
    classes: int | None = None,
    uri: str | None = None,
    contact: Mapping[str, Any] | None = None,
) -> Trace:
    """Whose copy is ``suspect``?

    Args:
        suspect: run or checkpoint folder, ``.onnx`` file or ``http(s)://`` address.
        vault: with the keys of the copies.
        alpha: largest chance of naming anybody if it comes from no copy.
        commitments: file whose lines begin with the commitments that were published in time.
        classes: that the suspect tells apart; by default as many as the first copy.
        uri: allows a folder whose model the user's own code builds, as ``package.module:factory``.
        contact: options of :class:`~freehold.ownership.endpoint.EndpointSuspect` for an address.

    Raises:
        FreeholdError: a suspect that is not there or fits no copy, an empty vault, no list of commitments.
    """
    published = _commitments(Path(commitments)) if commitments is not None else []
    keys = vault.keys()
    if not keys:
        raise UsageError(
            "no copy was marked yet", where=str(vault.path), fix="see 'freehold watermark --customer'"
        )
    first = next(iter(keys.values()))
    opened = open_suspect(suspect, first, method_of(first), classes=classes, uri=uri, **contact or {})
    return trace(opened, keys, alpha=alpha, commitments=published)


def _commitments(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is no text"
        raise MissingInputError(f"cannot be read: {reason}", where=str(path)) from None
    words = [line.split()[0] for line in lines if line.strip()]
    if odd := [word for word in words if not re.fullmatch(r"[0-9a-fA-F]{64}", word)]:
        raise UsageError(
            f"{odd[0][:20]!r} is no commitment", where=str(path), fix="64 hexadecimal digits begin each line"
        )
    return words
