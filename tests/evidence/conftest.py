from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from authority_kit import Authority, serving
from evidence_kit import bundle, claimed, release

from freehold.keys import Key


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """A released model."""
    path = tmp_path_factory.mktemp("evidence") / "model"
    release(path)
    return path


@pytest.fixture(scope="session")
def made(folder) -> tuple[bytes, Key]:
    """A claim on it, and the key."""
    return claimed(folder)


@pytest.fixture(scope="session")
def whole(folder, made) -> bytes:
    """A bundle about a suspect that gives every answer."""
    return bundle(folder.with_name("case.zip"), *made).read_bytes()


@pytest.fixture(scope="session")
def authority(tmp_path_factory) -> Authority:
    pytest.importorskip("rfc3161_client", reason="the extra [sign] is not installed")
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to run a time-stamp authority with")
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def desk(authority):
    """The authority's address."""
    with serving(authority) as address:
        yield address
