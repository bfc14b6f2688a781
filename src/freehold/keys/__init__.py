"""Secrets: the owner's key, what is derived from it, and the encrypted files they are kept in."""

from __future__ import annotations

from freehold.keys.customers import Vault
from freehold.keys.key import Key
from freehold.keys.stream import Stream

__all__ = ["Key", "Stream", "Vault"]
