"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets, or a skip where it is absent."""
    root = Path(os.environ.get("FREEHOLD_DATA", Path(__file__).parents[1] / "../shared/data"))
    if not root.is_dir():
        pytest.skip(f"no real data at {root}: set FREEHOLD_DATA")
    return root.resolve()
