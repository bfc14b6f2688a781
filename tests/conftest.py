"""Fixtures that all tests share."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing is read from or written to the user's cache."""
    os.environ["FREEHOLD_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def imported_things_are_no_garbage() -> None:
    """Every fit ends in a collection, which need not look at the half million objects of the libraries."""
    gc.freeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets, or a skip where it is absent."""
    root = Path(os.environ.get("FREEHOLD_DATA", Path(__file__).parents[1] / "../shared/data"))
    if not root.is_dir():
        pytest.skip(f"the real data sets do not come with the project; none at {root}: set FREEHOLD_DATA")
    return root.resolve()


def pytest_unconfigure() -> None:
    """What was frozen is let go, so that the libraries find nothing left over at the end."""
    gc.unfreeze()
