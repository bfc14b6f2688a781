from __future__ import annotations

from pathlib import Path

import pytest
from bench_kit import place, run_suite, tiny

from freehold.bench import Summary


@pytest.fixture(scope="session")
def ran(tmp_path_factory) -> tuple[Path, Summary]:
    """The tiny suite's results, made in this process, and the folder that holds them and the models."""
    folder = tmp_path_factory.mktemp("bench")
    return folder, run_suite(tiny(), folder / "results", place=place(folder), show=False)
