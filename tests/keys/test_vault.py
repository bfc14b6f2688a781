from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest
import torch

from freehold.errors import ArtifactError, MissingInputError, OutputError, SecretError
from freehold.keys import Key, vault

SECRET = bytes(range(100, 132))


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    monkeypatch.setattr(vault, "LOG2_N", 14)


@pytest.fixture
def key() -> Key:
    return Key(SECRET, "Größe", method="m", settings={"a": [1, 2]}, learned={"w": torch.randn(3, 4)})


@pytest.fixture
def path(tmp_path, key):
    key.save(tmp_path / "k.key", "open sesame")
    return tmp_path / "k.key"


def test_what_was_saved_is_loaded(key, path):
    loaded = Key.load(path, "open sesame", method="m")
    assert loaded == key and loaded.owner == "Größe" and loaded.settings == {"a": [1, 2]}
    assert torch.equal(loaded.stream("x").bits(9), key.stream("x").bits(9))


def test_the_default_cost_is_that_of_the_advice():
    assert vault.R == 8 and vault.P == 1
    import importlib

    assert importlib.reload(vault).LOG2_N == 17


def test_the_file_is_private_whatever_the_umask_and_shows_nothing(key, tmp_path):
    old = os.umask(0)
    try:
        key.save(tmp_path / "open.key", "x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "open.key").stat().st_mode) == 0o600
    data = (tmp_path / "open.key").read_bytes()
    assert SECRET not in data and SECRET.hex().encode() not in data and b"Gr" not in data[8:60]
    assert [p.name for p in tmp_path.iterdir()] == ["open.key"]


def test_two_files_of_one_key_have_nothing_in_common(key, tmp_path):
    for name in "ab":
        key.save(tmp_path / name, "x")
    one, two = ((tmp_path / name).read_bytes() for name in "ab")
    assert one[12:40] != two[12:40] and one[40:72] != two[40:72]


def test_a_wrong_passphrase_is_told_from_damage(path):
    with pytest.raises(SecretError, match="passphrase is wrong"):
        Key.load(path, "open sesam")
    with pytest.raises(SecretError):
        Key.load(path, "")


def test_every_flipped_bit_is_noticed(path):
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ (1 << place % 8)]) + data[place + 1 :])
        with pytest.raises(ArtifactError):
            Key.load(path, "open sesame")


def test_every_truncation_is_noticed(path):
    data = path.read_bytes()
    for size in [*range(0, len(data), 7), len(data) - 1]:
        path.write_bytes(data[:size])
        with pytest.raises(ArtifactError):
            Key.load(path, "open sesame")
    path.write_bytes(data + b"x")
    with pytest.raises(ArtifactError):
        Key.load(path, "open sesame")


@pytest.mark.parametrize("place", [20, 35, 50, -40])
def test_a_forged_digest_does_not_help(path, place):
    data = bytearray(path.read_bytes()[:-32])
    data[place] ^= 1
    path.write_bytes(bytes(data) + hashlib.sha256(data).digest())
    with pytest.raises(SecretError):
        Key.load(path, "open sesame")


def test_a_forged_cost_cannot_take_all_memory(path):
    for place, value in ((9, 40), (9, 18), (9, 1), (10, 255), (11, 0)):
        data = bytearray(path.read_bytes()[:-32])
        data[place] = value
        path.with_suffix(".bad").write_bytes(bytes(data) + hashlib.sha256(data).digest())
        with pytest.raises(ArtifactError):
            Key.load(path.with_suffix(".bad"), "open sesame")


def test_other_versions_and_other_files_are_named(path):
    data = bytearray(path.read_bytes())
    data[8] = 9
    path.write_bytes(bytes(data))
    with pytest.raises(ArtifactError, match="version 9"):
        Key.load(path, "open sesame")
    path.write_bytes(b"PK\x03\x04" * 50)
    for other in (path, Path("/dev/zero")):  # which is not read to its end
        with pytest.raises(ArtifactError, match="no key file"):
            Key.load(other, "open sesame")
    with pytest.raises(MissingInputError):
        Key.load(path.with_name("none"), "x")
    with pytest.raises(MissingInputError):
        Key.load(path.parent, "x")


@pytest.mark.parametrize("content", [b"", b"x" * 40, (2).to_bytes(8, "big") + b"{}", b"\xff" * 9])
def test_another_content_under_the_right_passphrase_is_no_key(path, content):
    vault.write_vault(path, content, "x", replace=True)
    with pytest.raises(ArtifactError, match="holds no key"):
        Key.load(path, "x")


def test_a_key_of_a_later_format_is_refused(key, path, monkeypatch):
    monkeypatch.setattr("freehold.keys.key.FORMAT", 2)
    key.save(path, "x", replace=True)
    monkeypatch.setattr("freehold.keys.key.FORMAT", 1)
    with pytest.raises(ArtifactError, match="holds no key"):
        Key.load(path, "x")


def test_the_key_of_another_method_is_refused(path):
    with pytest.raises(SecretError, match="a key of m, not of passport"):
        Key.load(path, "open sesame", method="passport")


def test_a_key_is_not_written_over_unless_asked(key, path):
    before = path.read_bytes()
    with pytest.raises(OutputError, match="file already"):
        key.save(path, "x")
    assert path.read_bytes() == before
    key.save(path, "x", replace=True)
    assert Key.load(path, "x") == key


def test_a_failed_write_leaves_what_was_there(key, path, monkeypatch):
    before = path.read_bytes()
    monkeypatch.setattr(vault.os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OutputError):
        key.save(path, "x", replace=True)
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


def test_no_passphrase_no_file(key, tmp_path):
    with pytest.raises(SecretError, match="empty"):
        key.save(tmp_path / "k", "")
    with pytest.raises(OutputError):
        key.save(tmp_path / "no" / "folder", "x")
    assert not list(tmp_path.iterdir())
