from __future__ import annotations

import pytest
from kit import METHODS

from freehold.data import Domains, InputSpec
from freehold.data.sources import load_domain
from freehold.plugin import find
from freehold.protection import Protection


@pytest.fixture(params=METHODS)
def method(request) -> type[Protection]:
    """Each registered method in turn."""
    return find(request.param)


@pytest.fixture(autouse=True)
def one_secret(monkeypatch) -> None:
    """Keys are born equal, so that runs that are to be equal can be."""
    monkeypatch.setattr("freehold.keys.key.secrets.token_bytes", lambda size: bytes(range(size)))


@pytest.fixture(scope="session")
def domains() -> Domains:
    here, there = (load_domain(uri, limit=60) for uri in ("digits-m", "digits"))
    return Domains(here, [there], InputSpec(size=32))
