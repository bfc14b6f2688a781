from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from freehold.cli.app import main

TINY = (
    "data.authorized=digits-m", "data.unauthorized=digits", "data.image_size=16", "data.limit=40",
    "train.threads=1", "train.steps=2", "train.batch_size=8",
)  # fmt: skip
CUTTING = ("method.name=map", "method.steps=2", "method.batch_size=8", "method.lr=0.01")


def sets(*pairs: str) -> list[str]:
    return [word for pair in pairs for word in ("--set", pair)]


class Ended(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


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
