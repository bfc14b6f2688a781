"""The vectors of the evidence format: this package and an independent program say the same of each."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from freehold.errors import ArtifactError
from freehold.evidence.bundle import read_bundle
from freehold.evidence.case import Case
from freehold.evidence.check import Known, State, check_bundle
from freehold.evidence.claim import Claim, read_file

ROOT = Path(__file__).parents[2]
VECTORS = sorted(
    path for path in (ROOT / "tests" / "vectors").glob("*/*") if path.suffix in (".json", ".zip")
)
TOOL = ROOT / "tools" / "check_claim.py"


@pytest.fixture(scope="module")
def independent():
    spec = importlib.util.spec_from_file_location("check_claim", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def holds(path: Path) -> bool:
    try:
        if path.suffix == ".json":
            read_file(path)
            return True
        found = check_bundle(read_bundle(path), Known(roots=None))
    except ArtifactError:
        return False
    return all(link.state != State.FAILS for link in found.links)


def test_there_are_vectors_of_every_kind():
    kinds = {path.parent.name for path in VECTORS}
    assert kinds == {"valid", "invalid", "invalid-payload"} and len(VECTORS) > 70


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_both_say_what_the_folder_says(path, independent):
    expected = path.parent.name == "valid"
    assert holds(path) == expected
    try:
        independent.check_bundle(path) if path.suffix == ".zip" else independent.check_claim(
            path.read_bytes()
        )
    except Exception:
        assert not expected, "the independent program refuses a valid vector"
    else:
        assert expected, "the independent program accepts an invalid vector"


def test_the_independent_program_is_short_shares_nothing_and_ends_in_one_line():
    text = TOOL.read_text()
    assert len(text.splitlines()) <= 150 and "freehold." not in text.replace("freehold/", "")
    assert "import freehold" not in text and "from freehold" not in text
    for name, code in (("valid/claim.json", 0), ("invalid/cut.json", 1), ("valid/bundle.zip", 0)):
        ended = subprocess.run(
            [sys.executable, str(TOOL), str(ROOT / "tests" / "vectors" / name)],
            capture_output=True,
            text=True,
        )
        assert ended.returncode == code and "Traceback" not in ended.stderr
        assert len((ended.stdout + ended.stderr).splitlines()) == 1


@pytest.mark.parametrize(("model", "name"), [(Claim, "claim"), (Case, "case")])
def test_the_schemas_are_those_of_the_code(model, name):
    path = ROOT / "docs" / "schemas" / f"{name}-1.json"
    assert json.loads(path.read_text()) == model.model_json_schema(by_alias=True)


def test_an_old_time_stamp_still_holds():
    from freehold.evidence.timestamp import shown_at

    pytest.importorskip("rfc3161_client", reason="the extra [sign] is not installed")
    found = read_file(ROOT / "tests" / "vectors" / "valid" / "claim-stamped.json").envelope
    roots = (ROOT / "tests" / "vectors" / "authority.pem").read_bytes()
    assert shown_at(found.reply, found.signature, roots, where="vector").year >= 2026
