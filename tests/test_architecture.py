"""The house keeps its shape: imports run downwards only, files stay readable, names stay few."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "freehold"
FLOORS = [
    {"errors", "seeds", "settings", "statistics", "report", "artifacts"},
    {"data", "models", "plugin", "keys"},
    {"training", "metrics"},
    {"attacks", "protection"},
    {"authorization", "ownership"},
    {"bench", "evidence", "config", "jobs"},
    {"cli", "__main__", "__init__"},
]
LEVEL = {room: level for level, floor in enumerate(FLOORS) for room in floor}
SIDE_BY_SIDE = [("authorization", "ownership"), ("ownership", "authorization"), ("report", "statistics")]
FILES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "freehold" else [f"freehold.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("freehold.")}
    return found


def test_the_scan_sees_the_package():
    assert len(FILES) > 30
    assert "training" in imported_rooms(PACKAGE / "protection.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_never_run_upwards(path: Path):
    here = room(path)
    for there in imported_rooms(path):
        assert LEVEL[there] <= LEVEL[here], f"{here} imports {there} from a floor above"
        assert (here, there) not in SIDE_BY_SIDE


def test_only_the_trainer_knows_accelerate():
    knowing = {p.name for p in FILES if "accelerate" in p.read_text() and "import" in p.read_text()}
    importing = {
        p
        for p in FILES
        if any(
            line.strip().startswith(("from accelerate", "import accelerate"))
            for line in p.read_text().splitlines()
        )
    }
    assert {p.name for p in importing} == {"trainer.py"} <= knowing


def test_only_statistics_knows_scipy():
    """But for the assignment of channels, which is no statistics."""
    knowing = {p for p in FILES if "from scipy" in p.read_text() or "import scipy" in p.read_text()}
    assert {room(p) for p in knowing if p.name != "alignment.py"} == {"statistics"}
    assert not any(
        f"scipy.{part}" in p.read_text()
        for p in FILES
        for part in ("stats", "special")
        if room(p) != "statistics"
    )


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_global_seed_no_hard_wired_device(path: Path):
    text = path.read_text()
    seeding = () if path.name == "seeds.py" else ("torch.manual_seed(",)
    for forbidden in (*seeding, "np.random.seed(", ".cuda()", "pickle.load", "weights_only=False"):
        assert forbidden not in text


def test_import_is_light():
    heavy = "{'torch', 'numpy', 'scipy', 'matplotlib', 'typer'}"
    code = f"import sys, freehold; print(sorted({heavy} & set(sys.modules)))"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_public_names_are_few_and_real():
    import freehold

    assert len(freehold.__all__) <= 30
    for name in freehold.__all__:
        assert getattr(freehold, name) is not None
