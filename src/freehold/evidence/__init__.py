"""What can be shown to others: claims, evidence, releases, whose copy leaked, and a registry of all of it."""

from __future__ import annotations

from freehold.evidence.check import Checked, Known, Link, State, check_bundle, check_claim
from freehold.evidence.claim import Claim, Signed, make, read, read_file, sign

__all__ = [
    "Checked",
    "Claim",
    "Known",
    "Link",
    "Signed",
    "State",
    "check_bundle",
    "check_claim",
    "make",
    "read",
    "read_file",
    "sign",
]
