"""A team's registry of claims and cases: entries are added, never changed, and each seals all before it.

Any database that SQLAlchemy reaches; a SQLite file by default. Entry n holds SHA-256 over its fields and
over the hash of entry n - 1, so that whoever edits, removes, inserts or reorders entries has to rewrite
every later hash. Against somebody who does that, or who cuts off the end, helps only the head, number and
hash of the last entry, kept somewhere else: see :meth:`Registry.verify`. A SQLite file has a seal beside
it, which tells every flipped bit of it. What it holds is public: claims, and verdicts on cases.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from freehold.errors import ArtifactError, MissingInputError, OutputError, UsageError
from freehold.evidence.database import META, ROWS, Database, Taken
from freehold.evidence.entry import Entry, Record, chained
from freehold.evidence.recording import refuse_secrets
from freehold.evidence.seal import Head, check_seal, locked, write_seal

if TYPE_CHECKING:
    from sqlalchemy import Connection

SCHEMA = 1
_TRIES = 100  # of two who write the same number one has to try again
_PAGE = 200  # entries read at a time


class Checked(NamedTuple):
    """That a registry is whole: its head, and what is to be said of it all the same."""

    head: Head
    notes: tuple[str, ...]


class Registry:
    """Entries in a database.

    Args:
        place: path of a SQLite file, or an SQLAlchemy URL.

    Raises:
        UsageError: no URL, or of a database that forgets.
        MissingDependencyError: SQLAlchemy or the database's driver is not installed.
    """

    def __init__(self, place: str) -> None:
        self._database = Database(place)

    def __repr__(self) -> str:
        return f"Registry({self._database.name!r})"

    def add(self, record: Record) -> tuple[Entry, bool]:
        """Enter ``record``; the same digest is entered once.

        Returns:
            The entry, and whether it is new.

        Raises:
            SecretError: the record looks like a key.
            OutputError: the registry cannot be written, or is busy for ten seconds.
            ArtifactError: the database is not a registry, or of a newer version.
            MissingInputError: the database cannot be reached.
        """
        for text in (record.body, *record.about.values()):
            refuse_secrets(text.encode(), where="record")
        with locked(self._database.file):
            for _ in range(_TRIES):
                with suppress(Taken), self._database.writing() as connection:
                    head = self._started(connection)
                    check_seal(self._database.file, head, partial(self._hash_of, connection))
                    if (known := self._find(connection, record)) is None:
                        entry = Entry.after(head, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), record)
                        self._database.insert(connection, ROWS, entry.row())
                        head = Head(entry.number, entry.hash)
                    break
            else:
                raise OutputError("too many write at once", where=self._database.name, fix="try again")
            write_seal(
                self._database.file, head
            )  # of a known entry too: it may have been cut off before this
        return known or entry, known is None

    def entries(self, *, text: str = "") -> Iterator[Entry]:
        """All entries in order, or those with ``text`` in their digest or in what they are about.

        Raises:
            ArtifactError: not a registry, or an entry that cannot be read.
            MissingInputError: no such registry.
        """
        wanted = text.casefold()
        with self._database.reading() as connection:
            self._first(connection)
            for entry in self._all(connection):
                about = entry.record.about
                if wanted in "\n".join((entry.record.digest, *about.values())).casefold():
                    yield entry

    def entry(self, name: str) -> Entry:
        """The entry with this number, or whose digest begins with ``name`` (six digits at least).

        Raises:
            UsageError: none, or several.
        """
        number, digest = int(name) if name.isdecimal() and len(name) < 12 else 0, name.lower()
        long = len(digest) >= 6
        found = [
            e for e in self.entries() if e.number == number or (long and e.record.digest.startswith(digest))
        ]
        if len(found) != 1:
            what = "several entries begin" if found else "no entry begins"
            raise UsageError(
                f"{what} with {name!r}", where=self._database.name, fix="see 'freehold claims list'"
            )
        return found[0]

    def verify(self, *, head: Head | None = None) -> Checked:
        """See that no entry was edited, removed, inserted or moved.

        Args:
            head: as it was printed earlier and kept elsewhere; shows that nothing was cut off since, and
                that the entries up to there are the same.

        Raises:
            ArtifactError: something was; names the first entry that does not fit.
            MissingInputError: no such registry.
        """
        name = self._database.name
        hashes: dict[int, str] = {}
        with self._database.reading() as connection:
            current = self._first(connection)
            for entry in self._all(connection):
                if not entry.follows(current):
                    raise ArtifactError(
                        f"entry {entry.number} was altered, or one before it removed or moved",
                        where=name,
                        fix="restore the registry from a backup",
                    )
                current = Head(entry.number, entry.hash)
                hashes[current.number] = current.hash
            notes = check_seal(self._database.file, current, hashes.get)
        if head is not None and head.number and hashes.get(head.number) != head.hash:
            what = "ends before" if head.number > current.number else "differs from what it was at"
            raise ArtifactError(f"{what} entry {head.number}", where=name, fix="restore it from a backup")
        return Checked(current, notes)

    def _started(self, connection: Connection) -> Head:
        """The head, in a database that was made a registry if it was empty."""
        if self._database.is_new(connection):
            self._database.create(connection)
            for name, value in (("schema", str(SCHEMA)), ("registry", secrets.token_hex(16))):
                self._database.insert(connection, META, {"name": name, "value": value})
        first, last = self._first(connection), self._database.select(connection, ROWS, last=True)
        return Head(last[0]["number"], last[0]["hash"]) if last else first

    def _hash_of(self, connection: Connection, number: int) -> str | None:
        found = self._database.select(connection, ROWS, after=number - 1, limit=1)
        return found[0]["hash"] if found and found[0]["number"] == number else None

    def _first(self, connection: Connection) -> Head:
        """What the first entry follows; differs from registry to registry."""
        name = self._database.name
        if self._database.is_new(connection):
            raise MissingInputError(
                "there is no registry yet", where=name, fix="'freehold claims add' starts one"
            )
        meta = {row["name"]: row["value"] for row in self._database.select(connection, META)}
        version = str(meta.get("schema", ""))
        if version.isdecimal() and int(version) > SCHEMA:
            raise ArtifactError(
                f"a registry of version {version}; this one reads version {SCHEMA}",
                where=name,
                fix="use the version of freehold that wrote it",
            )
        if version != str(SCHEMA) or not isinstance(meta.get("registry"), str):
            raise ArtifactError("is damaged, or no registry", where=name, fix="restore it from a backup")
        return Head(0, chained([SCHEMA, meta["registry"]]))

    def _all(self, connection: Connection) -> Iterator[Entry]:
        number = 0
        while rows := self._database.select(connection, ROWS, after=number, limit=_PAGE):
            for row in rows:
                entry = Entry.of(row, where=self._database.name)
                number = entry.number
                yield entry

    def _find(self, connection: Connection, record: Record) -> Entry | None:
        rows = self._database.select(connection, ROWS, kind=record.kind, digest=record.digest)
        return Entry.of(rows[0], where=self._database.name) if rows else None
