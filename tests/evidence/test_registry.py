"""A registry: nothing in it changes unnoticed, two can write at once, and it tells no secrets."""

from __future__ import annotations

import json
import logging
import shutil
import socket
import sqlite3
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
from registry_kit import PASSWORD, kill_after, postgres, record

from freehold.errors import (
    ArtifactError,
    FreeholdError,
    MissingDependencyError,
    MissingInputError,
    OutputError,
    SecretError,
    UsageError,
)
from freehold.evidence import registry as registries
from freehold.evidence.entry import Record
from freehold.evidence.registry import Registry
from freehold.evidence.seal import LOCK, SEAL, Head

pytest.importorskip("sqlalchemy", reason="the extra [registry] is not installed")


@pytest.fixture(scope="module")
def server():
    with postgres() as folder:
        yield folder


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A registry of five entries; to be copied."""
    path = tmp_path_factory.mktemp("made") / "claims.db"
    for number in range(5):
        Registry(str(path)).add(record(number))
    return path


@pytest.fixture
def path(made, tmp_path) -> Path:
    for ending in ("", SEAL):
        shutil.copy(f"{made}{ending}", f"{tmp_path / 'claims.db'}{ending}")
    return tmp_path / "claims.db"


def url(server: Path, name: str = "postgres") -> str:
    return f"postgresql://team:{quote(PASSWORD, safe='')}@/{name}?host={server}"


def fault(place: object, head: Head | None = None) -> str:
    try:
        (place if isinstance(place, Registry) else Registry(str(place))).verify(head=head)
    except FreeholdError as error:
        return str(error)
    return ""


def both(test):
    return pytest.mark.parametrize("kind", ["sqlite", "postgresql"])(test)


@pytest.fixture
def place(kind, tmp_path, request) -> str:
    if kind == "sqlite":
        return str(tmp_path / "claims.db")
    import psycopg

    server = request.getfixturevalue("server")
    name = f"case_{abs(hash(request.node.name))}"
    with psycopg.connect(url(server), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return url(server, name)


@both
def test_what_is_entered_is_found_again(place):
    registry = Registry(place)
    entries = [registry.add(record(number, suspect=f"shop {number}"))[0] for number in range(12)]
    assert [entry.number for entry in entries] == list(range(1, 13))
    again, new = registry.add(record(3, suspect="another"))
    assert again == entries[3] and not new
    assert list(Registry(place).entries()) == entries
    assert [entry.number for entry in registry.entries(text="SHOP 1")] == [2, 11, 12]
    assert list(registry.entries(text="nobody")) == []
    assert registry.entry("4") == entries[3] == registry.entry(entries[3].record.digest[:8].upper())
    for name in ("0", "13", "nothing", "f" * 64, ""):
        with pytest.raises(UsageError, match="no entry"):
            registry.entry(name)
    assert registry.verify() == (Head(12, entries[-1].hash), ())


@both
def test_two_write_at_once(place):
    def add(number: int) -> int:
        return Registry(place).add(record(number % 12))[0].number

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(add, range(24)))
    assert sorted(found) == sorted([*range(1, 13)] * 2)
    assert Registry(place).verify().head.number == 12


@both
def test_killed_while_it_writes_it_is_whole(place):
    def write(begun: Callable[[], None]) -> None:
        registry = Registry(place)
        for number in range(100_000):
            registry.add(record(1_000_000 * attempt + number))
            begun()

    known = 0
    for attempt in range(6):
        kill_after(write, 0.011 * attempt)
        registry = Registry(place)
        assert registry.verify().head.number > known
        known = registry.add(record(-1 - attempt))[0].number
        assert registry.verify() == (Head(known, registry.entry(str(known)).hash), ())


EDITS = [
    "UPDATE freehold_entries SET about = replace(about, 'owner 2', 'owner 7')",
    "UPDATE freehold_entries SET added = '2020-01-01T00:00:00Z' WHERE number = 2",
    "UPDATE freehold_entries SET body = '' WHERE number = 1",
    "UPDATE freehold_entries SET kind = 'case' WHERE number = 5",
    "DELETE FROM freehold_entries WHERE number = 3",
    "DELETE FROM freehold_entries WHERE number = 1",
    "UPDATE freehold_entries SET number = 9 WHERE number = 5",
    "UPDATE freehold_entries SET number = number - 1 WHERE number > 3 AND (SELECT 1)",
    "UPDATE freehold_meta SET value = '00' WHERE name = 'registry'",
    "DELETE FROM freehold_meta",
    "DELETE FROM freehold_entries WHERE number = 5",
    "DELETE FROM freehold_entries",
    "DROP TABLE freehold_meta",
    "CREATE TABLE more (a TEXT)",
]


@pytest.mark.parametrize("edit", EDITS)
def test_a_silent_edit_shows(path, edit):
    head = Registry(str(path)).verify().head
    connection = sqlite3.connect(path)
    try:
        connection.execute(edit)
    except sqlite3.IntegrityError:
        connection.execute("DELETE FROM freehold_entries WHERE number = 3")
        connection.execute(edit)
    connection.commit()
    connection.close()
    assert fault(path)
    with pytest.raises(ArtifactError):
        Registry(str(path)).add(record(77))  # and nothing is built on it
    Path(f"{path}{SEAL}").unlink()
    if "CREATE" not in edit:  # which touches no entry
        assert fault(path, head)


@both
def test_a_lost_end_shows_by_a_head_that_was_kept(place, kind):
    registry = Registry(place)
    for number in range(4):
        registry.add(record(number))
    head = registry.verify().head
    registry.add(record(4))
    assert registry.verify(head=head).head.number == 5  # it may grow
    execute(place, kind, "DELETE FROM freehold_entries WHERE number > 3")
    if kind == "sqlite":
        assert "it was sealed at 5" in fault(place)
        Path(f"{place}{SEAL}").unlink()
        assert "seal is missing" in registry.verify().notes[0]
    else:
        registry.verify()  # a chain cannot know of what came after its end
    assert "ends before entry 4" in fault(place, head)
    assert "differs" in fault(place, Head(2, "0" * 64))


@both
def test_whoever_rewrites_all_hashes_is_told_by_a_head_that_was_kept(place, kind):
    registry = Registry(place)
    for number in range(3):
        registry.add(record(number))
    head = registry.verify().head
    execute(place, kind, "DELETE FROM freehold_entries")
    if kind == "sqlite":
        Path(f"{place}{SEAL}").unlink()
    for number in (0, 9, 2):
        registry.add(record(number))
    assert registry.verify().head.number == 3 and "differs" in fault(place, head)


def execute(place: str, kind: str, text: str) -> None:
    import psycopg

    database = sqlite3.connect(place) if kind == "sqlite" else psycopg.connect(place)
    database.execute(text)
    database.commit()
    database.close()


def test_flipped_bits_of_the_file_and_its_seal_are_noticed(path):
    registry = Registry(str(path))
    for target, step in ((path, 101), (Path(f"{path}{SEAL}"), 1)):
        data = target.read_bytes()
        for at in range(0, len(data), step):
            target.write_bytes(data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :])
            assert fault(registry), f"bit {at % 8} of byte {at}"
        target.write_bytes(data)
    assert not fault(registry)


def test_a_truncated_file_or_seal_is_noticed_and_nothing_is_built_on_it(path):
    for target, step in ((path, 1777), (Path(f"{path}{SEAL}"), 13)):
        data = target.read_bytes()
        for size in range(0, len(data), step):
            target.write_bytes(data[:size])
            assert fault(path), f"{size} bytes"
            with pytest.raises(FreeholdError):
                Registry(str(path)).add(record(50))
        target.write_bytes(data)


@pytest.mark.parametrize("following", [60, 61])  # the same command again, or another one
def test_an_entry_that_was_cut_off_before_its_seal_is_noted_and_sealed_by_the_next(
    path, monkeypatch, following
):
    with monkeypatch.context() as patch:
        patch.setattr(registries, "write_seal", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Registry(str(path)).add(record(60))
    found = Registry(str(path)).verify()
    assert found.head.number == 6 and "sealed at entry 5 only" in found.notes[0]
    Registry(str(path)).add(record(following))
    assert Registry(str(path)).verify().notes == ()


def test_a_copy_that_can_only_be_read_is_read(path):
    before = {p: p.read_bytes() for p in path.parent.iterdir()}
    path.chmod(0o400)
    assert Registry(str(path)).verify().head.number == 5
    assert {p: p.read_bytes() for p in path.parent.iterdir()} == before


SECRETS = [
    b"FRHLDKEY\1\x11\x08\1" + bytes(200),
    b"FRHLDCP\1" + bytes(200),
    b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIG...",
    b"-----BEGIN OPENSSH PRIVATE KEY-----\n",
    b'{"facts": {}, "secret": "00ff"}',
    b'{"Passphrase" : "x"}',
]


@pytest.mark.parametrize("secret", SECRETS, ids=lambda s: repr(s[:16]))
def test_what_looks_like_a_key_is_refused(path, tmp_path, secret):
    from freehold.evidence.recording import record_of

    (tmp_path / "file").write_bytes(secret)
    with pytest.raises(SecretError, match="no secrets"):
        record_of(tmp_path / "file")
    if secret.isascii():
        text = secret.decode("ascii").replace("\0", " ")
        for fields in ({"body": text}, {"about": {"note": text}}):
            with pytest.raises(SecretError):
                Registry(str(path)).add(Record(**{**record(8).model_dump(), **fields}))
    assert Registry(str(path)).verify().head.number == 5


FOREIGN = [
    ("CREATE TABLE customers (a TEXT)", "something else"),
    ("CREATE TABLE freehold_meta (name TEXT, value TEXT)", "something else"),
]


@pytest.mark.parametrize(("table", "said"), FOREIGN)
def test_a_database_of_something_else_is_left_alone(tmp_path, table, said):
    place = tmp_path / "other.db"
    connection = sqlite3.connect(place)
    connection.execute(table)
    connection.close()
    before = place.read_bytes()
    assert said in fault(place)
    with pytest.raises(ArtifactError, match=said):
        Registry(str(place)).add(record(1))
    assert place.read_bytes() == before


@both
def test_a_registry_of_a_later_version_is_refused(place, kind):
    Registry(place).add(record(0))
    for value, said in (("2", "version 2"), ("x", "damaged"), ("-1", "damaged")):
        execute(place, kind, f"UPDATE freehold_meta SET value = '{value}' WHERE name = 'schema'")
        assert said in fault(place)
        with pytest.raises(ArtifactError, match=said):
            Registry(place).add(record(1))


def test_what_is_no_registry_is_refused(tmp_path):
    (tmp_path / "text.db").write_text("no database at all, but a text that is long enough " * 9)
    (tmp_path / "empty.db").touch()
    for name, said in (
        ("text.db", "not a database"),
        ("empty.db", "no registry"),
        ("none.db", "no registry"),
    ):
        assert said in fault(tmp_path / name)
    assert not (tmp_path / "none.db").exists()
    with pytest.raises(OutputError):
        Registry(str(tmp_path / "no" / "folder.db")).add(record(0))
    for bad in ("sqlite://", "sqlite:///:memory:", "://", "no url://x", "nodatabase://host/x"):
        with pytest.raises(UsageError):
            Registry(bad)
    with pytest.raises(UsageError, match="NUMBER:HASH"):
        Head.parse("5:xyz")


def test_a_writer_who_stands_still_is_waited_for_only_so_long(path, monkeypatch):
    import fcntl

    monkeypatch.setattr("freehold.evidence.seal.WAIT", 0.1)
    with Path(f"{path}{LOCK}").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match="somebody else is writing"):
            Registry(str(path)).add(record(9))
        assert Registry(str(path)).verify().head.number == 5


def test_a_server_that_does_not_answer_is_waited_for_only_so_long(monkeypatch):
    monkeypatch.setattr("freehold.evidence.database.SECONDS", 2)  # the least that its client knows
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        began = time.monotonic()
        assert "does not answer" in fault(f"postgresql://team:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/x")
        assert time.monotonic() - began < 20


def test_without_sqlalchemy_or_a_driver_it_says_what_to_install(monkeypatch):
    with pytest.raises(MissingDependencyError, match="driver"):
        Registry("mysql://u:p@h/x")
    monkeypatch.setitem(__import__("sys").modules, "sqlalchemy", None)
    with pytest.raises(MissingDependencyError, match=r"freehold\[registry\]"):
        Registry("claims.db")


def test_no_password_in_errors_tracebacks_logs_or_names(server, caplog):
    told: list[str] = []
    wrong = url(server).replace("s3cret", "s3cret-x")
    with caplog.at_level(logging.DEBUG):
        for place in (
            wrong,
            url(server, "nodatabase"),
            f"postgresql://team@/postgres?host={server}&password=x{quote(PASSWORD)}",
        ):
            registry = Registry(place)
            told += [repr(registry), json.dumps(registry._database.name)]
            with pytest.raises(MissingInputError) as error:
                registry.verify()
            told += traceback.format_exception(error.value)
    text = "\n".join(told) + caplog.text
    assert "canary" not in text and quote(PASSWORD, safe="") not in text and "password" in text


def test_threads_of_one_process_share_a_registry(path):
    registry = Registry(str(path))
    threads = [threading.Thread(target=registry.add, args=(record(n),)) for n in range(20, 24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert registry.verify().head.number == 9
