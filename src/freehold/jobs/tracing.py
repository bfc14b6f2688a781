"""``freehold trace``: a suspect against the copies of all customers of a vault."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from freehold.errors import MissingInputError, UsageError
from freehold.evidence.trace import Copy, Trace, trace
from freehold.jobs.verifying import open_suspect
from freehold.keys import Vault
from freehold.ownership.base import method_of
from freehold.protection import versions
from freehold.report import trace as pages
from freehold.report.evidence import word
from freehold.report.numbers import odds
from freehold.report.page import write_html
from freehold.report.trace_page import render_trace
from freehold.statistics import binomial_masses, matches_needed

UNSHOWN = (
    "How the copy left the customer, and whether it was his doing: that is for others to judge.",
    "That nobody else has a copy: whoever took the mark out is not named.",
)


def trace_copy(
    suspect: str,
    vault: Vault,
    *,
    alpha: float = 1e-6,
    commitments: str | Path | None = None,
    classes: int | None = None,
    uri: str | None = None,
    page: str | Path | None = None,
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
        page: write a page about it, which names customers.
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
    found = trace(opened, keys, alpha=alpha, commitments=published)
    if page is not None:
        write_html(render_trace(trace_page(found)), Path(page))
    return found


def trace_page(found: Trace) -> pages.TracePage:
    """Everything on the page of a trace."""
    grouped: dict[tuple[int, float, bool], list[Copy]] = {}
    for copy in found.copies:
        verdict = copy.verdict
        if verdict.trials:
            alike = (verdict.trials, verdict.rate, verdict.committed)
            grouped.setdefault(alike, []).append(copy)
    name = found.customer
    return pages.TracePage(
        title=f"{found.suspect}: {f'from the copy of {name}' if name else 'nobody is named'}",
        summary=[f"{found.reason[0].upper()}{found.reason[1:]}.", *_odds(found)],
        decision=word(found.decision),
        customer=name,
        groups=[_group(*alike, copies, found) for alike, copies in grouped.items()],
        alpha=found.alpha,
        queries=found.queries,
        left_out=[f"{customer}: the suspect {why}." for customer, why in found.left_out],
        unshown=UNSHOWN if name else (),
        versions=versions(),
    )


def _odds(found: Trace) -> list[str]:
    if not found.customer:
        return []
    chance = odds(found.copies[0].verdict.p_adjusted)
    return [f"A model that comes from no copy leads to a name {chance}."]


def _group(trials: int, rate: float, committed: bool, copies: Sequence[Copy], found: Trace) -> pages.Group:
    level = found.alpha / len(found.copies) / (1.0 if committed else 2.0**64)
    return pages.Group(
        trials=trials,
        rate=rate,
        masses=binomial_masses(trials, rate),
        needed=matches_needed(trials, rate, level),
        copies=[
            pages.Copy(
                customer=c.customer,
                matches=c.verdict.matches,
                p_value=c.verdict.p_value,
                p_adjusted=c.verdict.p_adjusted,
                found=word(c.verdict.decision).lower(),
            )
            for c in copies
        ],
    )


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
