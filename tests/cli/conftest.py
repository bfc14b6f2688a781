from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from cli_kit import CUTTING, TINY, sets

from freehold.cli.app import main


class Ended(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture(scope="module", autouse=True)
def quick_vaults():
    """Key files that are made here take a tenth of the time to open."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("freehold.keys.vault.LOG2_N", 14)
        yield


@pytest.fixture
def freehold(capsys) -> Callable[..., Ended]:
    """Runs the command in this process."""

    def run(*arguments: str | Path) -> Ended:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Ended(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def source(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "source"
    assert main(["train", *sets("model.uri=convnet", *TINY), "--out", str(path)]) == 0
    return path


@pytest.fixture(scope="session")
def bound(source) -> Path:
    path = source.with_name("bound")
    assert main(["protect", *sets(f"model.weights={source}", *TINY, *CUTTING), "--out", str(path)]) == 0
    return path
