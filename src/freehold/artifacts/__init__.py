"""Run directories: worked on under a temporary name, published whole, verified byte by byte.

A run called ``runs/a`` grows in ``runs/.a.partial`` and is renamed when it is finished, so whoever
opens ``runs/a`` finds all of it or nothing. Its manifest holds the SHA-256 of every file and of itself.
"""

from __future__ import annotations

from freehold.artifacts.files import as_json, as_toml, file_hash, fingerprint, write_file
from freehold.artifacts.folder import RunFolder, finished
from freehold.artifacts.manifest import RUN, verify_run

__all__ = [
    "RUN",
    "RunFolder",
    "as_json",
    "as_toml",
    "file_hash",
    "fingerprint",
    "finished",
    "verify_run",
    "write_file",
]
