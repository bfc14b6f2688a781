"""Flipped bits in claims and bundles, in full count: every one has to be noticed.

    python benchmarks/evidence_flips.py [--random 10000]     writes benchmarks/results/evidence/flips.json

One bit in every byte of small files, and so many random bits in large ones; a flip that is read without an
error of Freehold's own is a miss.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from evidence_kit import EXAMINER

from freehold.errors import FreeholdError
from freehold.evidence.bundle import read_bundle
from freehold.evidence.claim import read
from freehold.protection import versions

RESULTS = Path(__file__).parent / "results" / "evidence"
VECTORS = Path(__file__).parents[1] / "tests" / "vectors" / "valid"
SMALL = 64 << 10  # bytes up to which every byte is tried


def accepted(content: bytes, path: Path) -> bool:
    """Whether it is read; raises what is no error of ours."""
    try:
        if content[:2] == b"PK" or path.suffix == ".zip":
            path.write_bytes(content)
            read_bundle(path)
        else:
            read(content)
    except FreeholdError:
        return False
    return True


def flips(content: bytes, count: int, path: Path, draws: random.Random) -> dict[str, int]:
    every = len(content) <= SMALL
    places = range(len(content)) if every else [draws.randrange(len(content)) for _ in range(count)]
    missed = 0
    for place in places:
        bad = bytearray(content)
        bad[place] ^= 1 << draws.randrange(8)
        missed += accepted(bytes(bad), path)
    return {"bytes": len(content), "flips": len(places), "missed": missed}


def large(folder: Path) -> bytes:
    """A bundle of 100 images of 64 x 64 pixels, signed by an examiner."""
    import ownership_kit
    from evidence_kit import bundle, claimed, release

    from freehold.data import InputSpec

    ownership_kit.SPEC = InputSpec(size=64)
    release(folder / "model")
    return bundle(folder / "large.zip", *claimed(folder / "model"), signer=EXAMINER).read_bytes()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--random", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "flips.json")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, draws = Path(name), random.Random(given.seed)
        files = {path.name: path.read_bytes() for path in sorted(VECTORS.iterdir())}
        files["large.zip"] = large(folder)
        found = {
            n: flips(data, given.random, folder / f"x{Path(n).suffix}", draws) for n, data in files.items()
        }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"versions": versions(), "found": found}, indent=1) + "\n"
    given.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
