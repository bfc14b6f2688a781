from __future__ import annotations

import hashlib
import hmac
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from registry_kit import kill_after

from freehold.errors import (
    ArtifactError,
    FreeholdError,
    MissingInputError,
    OutputError,
    SecretError,
    UsageError,
)
from freehold.keys import Key, Vault, vault
from freehold.keys.customers import MASTER
from freehold.keys.vault import change_passphrase

MASTER_SECRET = bytes(range(50, 82))
NAMES = ("Orchid AG", "Blue & Söhne", "北方公司")


@pytest.fixture(autouse=True, scope="module")
def cheap():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vault, "LOG2_N", 14)
        yield


@pytest.fixture
def place(tmp_path):
    Vault.create(tmp_path / "vault", "open sesame", "ACME")
    return tmp_path / "vault"


def marked(key: Key, number: int = 0) -> Key:
    facts = {"customer": key.facts["customer"], "released": f"{number:064x}"}
    return key.bound("m", {"steps": number}, facts, {"w": torch.full((2,), float(number))})


def filled(place, names=NAMES) -> Vault:
    opened = Vault(place, "open sesame")
    for number, name in enumerate(names):
        opened.add(name, marked(opened.born(name), number))
    return opened


def test_a_customers_secret_is_hkdf_over_owner_and_name():
    key = Key(MASTER_SECRET, "ACME").for_customer("Orchid AG")
    drawn = hmac.digest(bytes(32), MASTER_SECRET, "sha256")  # RFC 5869: extract, without salt
    info = b"freehold/customer/1\0" + b"\0\0\0\4ACME" + b"\0\0\0\x09Orchid AG"
    secret = hmac.digest(drawn, info + b"\1", "sha256")  # and expand
    assert key == Key(secret, "ACME", facts={"customer": "Orchid AG"})
    assert Key(MASTER_SECRET, "ACME").for_customer("Orchid AG") == key


@given(st.tuples(st.text("ab ", max_size=4), st.text("abc", min_size=1, max_size=4)),
       st.tuples(st.text("ab ", max_size=4), st.text("abc", min_size=1, max_size=4)))  # fmt: skip
def test_no_two_customers_share_a_stream(one, two):
    first, second = (Key(MASTER_SECRET, owner).for_customer(name) for owner, name in (one, two))
    same = first.stream("labels").draw(16) == second.stream("labels").draw(16)
    assert same == (one == two)


def test_a_name_is_one_whatever_way_it_was_typed():
    composed, apart = "Söhne", "So\u0308hne"
    assert composed != apart
    assert Key(MASTER_SECRET).for_customer(composed) == Key(MASTER_SECRET).for_customer(apart)


@pytest.mark.parametrize("name", ["", " ", " a", "a ", "a\nb", "\x00", "x" * 201, "a\u202eb"])
def test_a_bad_name_is_refused(name):
    with pytest.raises(UsageError, match="no name of a customer"):
        Key(MASTER_SECRET).for_customer(name)


def test_only_a_master_key_has_customers():
    customer = Key(MASTER_SECRET).for_customer("a")
    for key in (customer, customer.bound("m", {}, {}), Key(MASTER_SECRET).bound("m", {}, {})):
        with pytest.raises(SecretError, match="no master key"):
            key.for_customer("b")


def test_copies_come_back_by_name(place):
    filled(place)
    opened = Vault(place, "open sesame")
    assert opened.owner == "ACME" and tuple(opened.keys()) == tuple(sorted(NAMES))
    for number, name in enumerate(NAMES):
        assert opened.key(name) == marked(opened.born(name), number)
        assert torch.equal(opened.key(name).learned["w"], torch.full((2,), float(number)))
    with pytest.raises(UsageError, match="did you mean 'Orchid AG'"):
        opened.key("Orchid Ag")


def test_a_customer_has_one_copy(place):
    opened = filled(place)
    before = opened.key(NAMES[0])
    with pytest.raises(OutputError, match="has a copy already"):
        opened.add(NAMES[0], marked(opened.born(NAMES[0]), 9))
    with pytest.raises(OutputError, match="has a copy already"):
        opened.refuse_known(NAMES[0])
    assert opened.key(NAMES[0]) == before
    opened.add(NAMES[0], marked(opened.born(NAMES[0]), 9), replace=True)
    assert opened.key(NAMES[0]).settings == {"steps": 9}


def test_of_two_who_add_at_once_one_is_refused(place):
    opened = Vault(place, "open sesame")

    def add(number: int) -> str:
        try:
            opened.add("Orchid AG", marked(opened.born("Orchid AG"), number))
        except OutputError:
            return "refused"
        return "added"

    with ThreadPoolExecutor(8) as pool:
        ended = sorted(pool.map(add, range(8)))
    assert ended == ["added", *["refused"] * 7] and len(list((place / "customers").iterdir())) == 1


def test_the_key_of_somebody_else_is_refused(place):
    opened = Vault(place, "open sesame")
    own = opened.born("a")
    for key in (
        marked(opened.born("b")),
        marked(Key.born("ACME").for_customer("a")),
        own,
        own.bound("m", {}, {}),
    ):
        with pytest.raises(SecretError):
            opened.add("a", key)
    assert not opened.keys()


def test_the_folder_is_private_and_tells_no_names(place):
    opened = filled(place)
    files = [path for path in place.rglob("*") if path.is_file()]
    assert len(files) == 4 and {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    secret = opened.key(NAMES[0])._secret
    for path in files:
        shown = path.name.encode() + path.read_bytes()
        for form in (*(name.encode() for name in NAMES), secret, secret.hex().encode(), b"ACME", b"steps"):
            assert form not in shown
    assert "Orchid" not in repr(opened) and repr(opened._seal) not in repr(opened)


def test_every_flipped_bit_and_every_truncation_of_a_copy_is_noticed(place):
    opened = filled(place, NAMES[:1])
    (path,) = (place / "customers").iterdir()
    data = path.read_bytes()
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :])
        with pytest.raises(ArtifactError, match="damaged, renamed or of another"):
            opened.keys()
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(ArtifactError):
            opened.keys()
    path.write_bytes(data)
    assert tuple(opened.keys()) == NAMES[:1]


def test_copies_cannot_be_swapped_or_brought_from_another_vault(place, tmp_path):
    opened = filled(place)
    one, two, _ = sorted((place / "customers").iterdir())
    content = one.read_bytes()
    two.write_bytes(content)
    with pytest.raises(ArtifactError, match="renamed"):
        opened.keys()
    other = Vault.create(tmp_path / "other", "x", "ACME")
    (other.path / "customers" / one.name).write_bytes(content)
    with pytest.raises(ArtifactError, match="of another vault"):
        other.keys()


def test_what_is_no_vault_is_refused(place, tmp_path):
    with pytest.raises(SecretError, match="passphrase is wrong"):
        Vault(place, "open sesam")
    for absent in (tmp_path / "none", tmp_path):
        with pytest.raises(MissingInputError, match="freehold key new"):
            Vault(absent, "x")
    (place / MASTER).unlink()
    marked(Key.born().for_customer("a")).save(place / MASTER, "x")
    with pytest.raises(SecretError, match="a key of m"):
        Vault(place, "x")


def test_a_vault_is_made_whole_or_not_at_all(place, tmp_path):
    with pytest.raises(OutputError, match="a vault already"):
        Vault.create(place, "x", "ACME")
    (tmp_path / "busy").mkdir()
    (tmp_path / "busy" / "file").touch()
    with pytest.raises(OutputError):
        Vault.create(tmp_path / "busy", "x", "ACME")
    with pytest.raises(SecretError, match="empty"):
        Vault.create(tmp_path / "empty", "", "ACME")
    with pytest.raises(UsageError):
        Vault.create(tmp_path / "empty", "x", "A\nB")
    assert {path.name for path in tmp_path.iterdir()} == {"vault", "busy"}


def test_a_new_passphrase_leaves_keys_and_copies_as_they_are(place):
    before = filled(place).keys()
    copies = {path: path.read_bytes() for path in (place / "customers").iterdir()}
    change_passphrase(place / MASTER, "open sesame", "another")
    assert Vault(place, "another").keys() == before
    assert {path: path.read_bytes() for path in (place / "customers").iterdir()} == copies
    with pytest.raises(SecretError, match="wrong"):
        Vault(place, "open sesame")
    assert stat.S_IMODE((place / MASTER).stat().st_mode) == 0o600
    for old, new, said in (
        ("no", "x", "wrong"),
        ("another", "", "empty"),
        ("another", "another", "the old one"),
    ):
        with pytest.raises(SecretError, match=said):
            change_passphrase(place / MASTER, old, new)
    assert Vault(place, "another").keys() == before


def test_a_rotation_that_fails_leaves_the_old_file(place, monkeypatch):
    before = (place / MASTER).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(vault.os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(OutputError, match="No space"):
            change_passphrase(place / MASTER, "open sesame", "another")
    assert (place / MASTER).read_bytes() == before
    assert {path.name for path in place.iterdir()} == {MASTER, "customers"}


def test_killed_while_it_rotates_one_of_the_passphrases_opens_it(tmp_path):
    key, path = Key(MASTER_SECRET, "ACME"), tmp_path / "k"
    key.save(path, "one")

    def rotate(begun: Callable[[], None]) -> None:
        one, two = "one", "two"
        while True:
            change_passphrase(path, one, two)
            begun()
            one, two = two, one

    for attempt in range(10):
        kill_after(rotate, 0.007 * attempt)
        assert opens(path, key)
    assert len([p for p in tmp_path.iterdir() if p.suffix != ".tmp"]) == 1


def opens(path, key) -> bool:
    for passphrase, other in (("one", "two"), ("two", "one")):
        try:
            found = Key.load(path, passphrase)
        except FreeholdError:
            continue
        if passphrase == "two":  # as the next attempt expects it
            change_passphrase(path, passphrase, other)
        return found == key
    return False


def test_a_disk_without_hard_links_holds_keys_as_well(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(vault.os, "link", refuse)
    Key(MASTER_SECRET).save(tmp_path / "k", "x")
    with pytest.raises(OutputError, match="file already"):
        Key(MASTER_SECRET).save(tmp_path / "k", "x")
    assert Key.load(tmp_path / "k", "x") == Key(MASTER_SECRET) and len(list(tmp_path.iterdir())) == 1


def test_the_digest_of_a_stored_master_tells_damage_from_a_wrong_passphrase(place):
    data = bytearray((place / MASTER).read_bytes())
    data[40] ^= 4
    (place / MASTER).write_bytes(data)
    with pytest.raises(ArtifactError, match="damaged"):
        Vault(place, "open sesame")
    (place / MASTER).write_bytes(bytes(data[:-32]) + hashlib.sha256(data[:-32]).digest())
    with pytest.raises(SecretError):
        Vault(place, "open sesame")
