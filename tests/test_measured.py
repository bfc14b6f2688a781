"""The page of figures says what the committed results say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_page_of_figures_is_what_the_results_give():
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / "measured.py", "--check"], timeout=60)
    assert done.returncode == 0, "run python benchmarks/measured.py and commit docs/measured.md"
