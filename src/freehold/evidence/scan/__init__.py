"""Look into a model file of unknown origin without running anything that is in it."""

from __future__ import annotations

from freehold.evidence.scan.look import scan
from freehold.evidence.scan.report import Finding, Inspection

__all__ = ["Finding", "Inspection", "scan"]
