"""Entries of a registry: a record in its place, bound by a hash to all before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field

from freehold.errors import ArtifactError, ConfigError
from freehold.evidence.seal import Head
from freehold.settings import Settings

_DOMAIN = b"freehold/registry/1\0"


class Record(Settings):
    """What is entered: a public document or its digest, and what it is about."""

    kind: Literal["claim", "case"]
    digest: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the file")
    about: dict[str, str] = Field(description="what lists show and searches look through")
    body: str = Field(description="the document itself if it is small and public, else empty")


class Entry(Settings):
    """A record in its place.

    Attributes:
        number: from 1, without gaps.
        added: when, UTC, by the clock of the machine that wrote it.
        record: what was entered.
        previous: hash of the entry before.
        hash: SHA-256 (hex) over all of this.
    """

    number: int = Field(ge=1)
    added: str
    record: Record
    previous: str
    hash: str

    @classmethod
    def after(cls, head: Head, added: str, record: Record) -> Self:
        """The entry that comes next."""
        number = head.number + 1
        return cls(
            number=number,
            added=added,
            record=record,
            previous=head.hash,
            hash=chained([number, added, record.model_dump(mode="json"), head.hash]),
        )

    @classmethod
    def of(cls, row: Mapping[str, object], *, where: str) -> Self:
        """The entry in a row of the database; its place and hashes are not checked.

        Raises:
            ArtifactError: it cannot be read, or is not in the form that it is written in.
        """
        try:
            about = json.loads(str(row["about"]))
            record = Record(kind=row["kind"], digest=row["digest"], about=about, body=row["body"])
            entry = cls(
                record=record, **{name: row[name] for name in ("number", "added", "previous", "hash")}
            )
        except (ConfigError, ValueError, RecursionError):
            entry = None
        if entry is None or entry.row() != row:
            raise ArtifactError(
                f"entry {row['number']} cannot be read", where=where, fix="restore the registry from a backup"
            )
        return entry

    def row(self) -> dict[str, object]:
        """As a row of the database."""
        record = self.record
        return {
            "number": self.number,
            "added": self.added,
            "kind": record.kind,
            "digest": record.digest,
            "about": _text(record.about),
            "body": record.body,
            "previous": self.previous,
            "hash": self.hash,
        }

    def follows(self, head: Head) -> bool:
        """Whether this is the entry after ``head``, unaltered, with the document that it names."""
        body = self.record.body
        fits = not body or hashlib.sha256(body.encode()).hexdigest() == self.record.digest
        return fits and self == self.after(head, self.added, self.record)


def chained(data: object) -> str:
    """SHA-256 (hex) of JSON-able data, in this registry's domain."""
    return hashlib.sha256(_DOMAIN + _text(data).encode()).hexdigest()


def _text(data: object) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
