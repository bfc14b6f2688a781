"""Flipped bits in runs, releases, claims, bundles and vaults, in full count: every one has to be noticed.

    python benchmarks/evidence_flips.py [--random 10000]     writes benchmarks/results/evidence/flips.json

One bit, drawn at random, in every byte of small files, and so many random bits in large ones; a flip that is
read without an error of Freehold's own is a miss. Exits with 1 if there is any.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import ownership_kit
import torch
from evidence_kit import EXAMINER, bundle, claimed, release

from freehold.artifacts import verify_run
from freehold.artifacts.manifest import files_of
from freehold.config import from_json
from freehold.data import InputSpec
from freehold.errors import FreeholdError
from freehold.evidence.bundle import read_bundle
from freehold.evidence.claim import read_file
from freehold.evidence.release import export
from freehold.jobs import train, watermark
from freehold.keys import Key, Vault
from freehold.protection import versions

RESULTS = Path(__file__).parent / "results" / "evidence"
VECTORS = Path(__file__).parents[1] / "tests" / "vectors" / "valid"
SMALL = 64 << 10  # bytes up to which every byte is tried
PHRASE = "correct horse battery staple"
Read = Callable[[], object]


def files(folder: Path) -> Iterator[tuple[str, Path, Read]]:
    """Each file, by the name it has in the results, and what reads it."""
    for path in sorted(VECTORS.iterdir()):
        copy = folder / path.name
        copy.write_bytes(path.read_bytes())
        read: Callable[[Path], object] = read_bundle if path.suffix == ".zip" else read_file
        yield f"{'bundle' if path.suffix == '.zip' else 'claim'}: {path.name}", copy, partial(read, copy)
    large = large_bundle(folder)
    yield "bundle: of 100 images", large, partial(read_bundle, large)

    key, run, shipped = marked(folder)
    yield "key file", key, partial(Key.load, key, PHRASE)
    for kind, place in (("run", run), ("release", shipped)):
        for name, path in files_of(place).items():
            yield f"{kind}: {name}", path, partial(verify_run, place)

    vault = Vault.create(folder / "vault", PHRASE, "ACME")
    for customer, size in (("one", 1), ("two", 100_000)):
        own = vault.born(customer).bound("m", {}, {"customer": customer}, {"w": torch.zeros(size)})
        vault.add(customer, own)
    master, *copies = files_of(folder / "vault").values()
    if master.name != "master.key":
        master, copies = copies[-1], [master, *copies[:-1]]
    yield "vault: master.key", master, partial(Vault, vault.path, PHRASE)
    for copy in sorted(copies, key=lambda path: path.stat().st_size):
        yield f"vault: a copy of {copy.stat().st_size} bytes", copy, vault.keys


def large_bundle(folder: Path) -> Path:
    """Of 100 images of 64 x 64 pixels, signed by an examiner."""
    ownership_kit.SPEC = InputSpec(size=64)
    release(folder / "model")
    return bundle(folder / "large.zip", *claimed(folder / "model"), signer=EXAMINER)


def marked(folder: Path) -> tuple[Path, Path, Path]:
    """Key file, marked run and release of it."""
    data = {"authorized": "digits-m", "image_size": 16, "limit": 100}
    setting = {"model": {"uri": "convnet"}, "data": data, "train": {"steps": 5}}
    train(from_json(setting), folder / "source", progress=False)
    setting |= {"model": {"weights": str(folder / "source")}, "method": {"name": "trigger-set", "steps": 2}}
    key, run = folder / "a.key", folder / "run"
    watermark(from_json(setting), run, key, lambda new: PHRASE, owner="ACME", progress=False)
    return key, run, export(run, folder / "release", key=Key.load(key, PHRASE)).directory


def missed(read: Read) -> bool:
    """Whether it is read as if nothing had happened; raises what is no error of ours."""
    try:
        read()
    except FreeholdError:
        return False
    return True


def flips(path: Path, read: Read, count: int, draws: random.Random) -> dict[str, int]:
    content, wrong = path.read_bytes(), 0
    if not missed(read):
        raise SystemExit(f"{path} cannot be read as it is")
    every = len(content) <= SMALL
    places = range(len(content)) if every else [draws.randrange(len(content)) for _ in range(count)]
    with path.open("r+b", buffering=0) as file:
        for place in places:
            file.seek(place)
            file.write(bytes([content[place] ^ 1 << draws.randrange(8)]))
            wrong += missed(read)
            file.seek(place)
            file.write(content[place : place + 1])
    return {"bytes": len(content), "flips": len(places), "missed": wrong}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--random", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "flips.json")
    given = parser.parse_args()
    draws, found = random.Random(given.seed), {}
    with tempfile.TemporaryDirectory() as folder:
        for name, path, read in files(Path(folder)):
            found[name] = flips(path, read, given.random, draws)
            print(name, found[name], file=sys.stderr)
    total = {field: sum(told[field] for told in found.values()) for field in ("bytes", "flips", "missed")}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"versions": versions(), "total": total, "found": found}, indent=1) + "\n"
    given.out.write_text(text)
    print(text)
    sys.exit(int(total["missed"] > 0))


if __name__ == "__main__":
    main()
