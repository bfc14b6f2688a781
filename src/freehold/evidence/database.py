"""The database of a registry: two tables behind SQLAlchemy, and its errors without any password."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

from freehold.errors import (
    ArtifactError,
    FreeholdError,
    MissingDependencyError,
    MissingInputError,
    OutputError,
    UsageError,
)

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection

META, ROWS = "freehold_meta", "freehold_entries"
SECONDS = 5  # that a server may take to answer
_WRITES = "freehold_writes"


class Taken(OutputError):
    """Another writer took this place at the same time."""


class Database:
    """Where a registry is kept.

    Args:
        place: path of a SQLite file, or an SQLAlchemy URL.

    Raises:
        UsageError: no URL, or of a database that forgets.
        MissingDependencyError: SQLAlchemy or the driver is not installed.
    """

    def __init__(self, place: str) -> None:
        url = _url(place)
        import sqlalchemy as sa

        self._sa = sa
        hidden = [str(v) for k, v in url.query.items() if "pass" in k.lower()]
        self._passwords = [str(url.password), *hidden] if url.password else hidden
        self.file = Path(str(url.database)) if url.get_backend_name() == "sqlite" else None
        self.name = str(self.file) if self.file else url.set(password=None, query={}).render_as_string()
        tables = sa.MetaData()
        text = sa.Text()
        self._tables = {
            META: sa.Table(
                META, tables, sa.Column("name", sa.String(32), primary_key=True), sa.Column("value", text)
            ),
            ROWS: sa.Table(
                ROWS,
                tables,
                sa.Column("number", sa.BigInteger(), primary_key=True, autoincrement=False),
                sa.Column("added", sa.String(32), nullable=False),
                sa.Column("kind", sa.String(16), nullable=False),
                sa.Column("digest", sa.String(64), nullable=False),
                *(sa.Column(name, text, nullable=False) for name in ("about", "body")),
                *(sa.Column(name, sa.String(64), nullable=False) for name in ("previous", "hash")),
                sa.UniqueConstraint("kind", "digest"),
            ),
        }
        self._metadata = tables
        options: dict[str, dict[str, Any]] = {
            "sqlite": {"timeout": SECONDS},
            "postgresql": {"connect_timeout": SECONDS, "options": f"-c statement_timeout={SECONDS}s"},
        }
        known = {k: v for k, v in options.get(url.get_backend_name(), {}).items() if k not in url.query}
        try:
            self._engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args=known)
        except ImportError as error:
            raise MissingDependencyError(
                f"no driver for this database: {error.name}",
                where=self.name,
                fix="pip install 'freehold[postgres]', or the driver of your database",
            ) from None
        except sa.exc.ArgumentError:
            raise UsageError("an unknown kind of database", where=self.name) from None
        if self.file is not None:
            sa.event.listen(self._engine, "connect", _manual)
            sa.event.listen(self._engine, "begin", _begin)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that reads.

        Raises:
            MissingInputError: it is not there, or cannot be reached.
            ArtifactError: it is damaged or no database.
        """
        if self.file is not None and not self.file.is_file():
            raise MissingInputError(
                "there is no registry", where=self.name, fix="'freehold claims add' starts one"
            )
        with self._errors(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes, whole or not at all.

        Raises:
            OutputError: it cannot be written.
            FreeholdError: as :meth:`reading`.
        """
        with self._errors(), self._engine.connect() as connection:
            connection.execution_options(**{_WRITES: True})
            with connection.begin():
                yield connection

    def is_new(self, connection: Connection) -> bool:
        """Whether it holds no tables.

        Raises:
            ArtifactError: it holds others, and none of ours.
        """
        found = set(self._sa.inspect(connection).get_table_names())
        if found and not found >= {META, ROWS}:
            raise ArtifactError(
                "is a database of something else, or damaged",
                where=self.name,
                fix="give the registry a database of its own",
            )
        return not found

    def create(self, connection: Connection) -> None:
        """Make the tables."""
        self._metadata.create_all(connection)

    def insert(self, connection: Connection, table: str, row: dict[str, object]) -> None:
        """Add a row; the transaction ends with :class:`Taken` if another has its place."""
        connection.execute(self._tables[table].insert(), row)

    def select(
        self,
        connection: Connection,
        table: str,
        *,
        after: int = 0,
        limit: int | None = None,
        last: bool = False,
        **equal: str,
    ) -> list[dict[str, Any]]:
        """Rows in order: those behind a number, the last one, or those with certain values."""
        rows = self._tables[table]
        order = next(iter(rows.primary_key))
        query = rows.select().order_by(order.desc() if last else order).limit(1 if last else limit)
        if after:
            query = query.where(order > after)
        for name, value in equal.items():
            query = query.where(rows.c[name] == value)
        return [dict(row) for row in connection.execute(query).mappings()]

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Errors of the database as ours; nothing of them is kept that could hold the password."""
        sa = self._sa
        try:
            yield
            return
        except (sa.exc.SQLAlchemyError, UnicodeError) as error:  # a flipped bit need not leave a text
            found = self._translated(error)
        raise found

    def _translated(self, error: Exception) -> FreeholdError:
        text = " ".join(str(getattr(error, "orig", None) or error).split())
        for password in self._passwords:
            for form in (password, quote(password, safe=""), quote_plus(password)):
                text = text.replace(form, "***")
        text = text[:200]
        if isinstance(error, self._sa.exc.IntegrityError) or "already exists" in text:
            return Taken("another writer was faster", where=self.name, fix="try again")
        if self.file is not None:
            if "locked" in text or "readonly" in text or "full" in text or "unable to open" in text:
                return OutputError(f"cannot be used: {text}", where=self.name, fix="try again, or elsewhere")
            return ArtifactError(f"cannot be read: {text}", where=self.name, fix="restore it from a backup")
        if isinstance(error, self._sa.exc.OperationalError | self._sa.exc.InterfaceError):
            return MissingInputError(
                f"the database does not answer: {text}", where=self.name, fix="check host, name and password"
            )
        return ArtifactError(f"the database refuses: {text}", where=self.name, fix="check rights and version")


def has_password(place: str) -> bool:
    """Whether ``place`` is a URL with a password in it."""
    url = _url(place)
    return bool(url.password) or any("pass" in name.lower() for name in url.query)


def _url(place: str) -> URL:
    try:
        import sqlalchemy as sa
    except ImportError:
        raise MissingDependencyError(
            "a registry needs SQLAlchemy", where="registry", fix="pip install 'freehold[registry]'"
        ) from None
    if "://" not in place:
        return sa.URL.create("sqlite", database=str(Path(place)))
    try:
        url = sa.make_url(place)
        backend = url.get_backend_name()
    except (sa.exc.SQLAlchemyError, ValueError):
        raise UsageError(
            "is no URL of a database", where="registry", fix="such as postgresql://user@host/name, or a file"
        ) from None
    if backend == "sqlite" and (not url.database or url.database == ":memory:" or url.query):
        raise UsageError("a registry in memory is soon forgotten", where="registry", fix="name a file")
    # The extra brings psycopg; which driver the bare name means differs between versions of SQLAlchemy.
    return url.set(drivername="postgresql+psycopg") if url.drivername in ("postgresql", "postgres") else url


def _manual(connection: Any, record: object) -> None:
    connection.isolation_level = None  # else sqlite3 begins and commits by rules of its own


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
