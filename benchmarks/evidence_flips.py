"""What damage and malice do to claims and bundles: flipped bits in full count, and files that are made up.

    python benchmarks/evidence_flips.py flips [--random 10000]     benchmarks/results/evidence/flips.json
    python benchmarks/evidence_flips.py fuzz [--minutes 10]        benchmarks/results/evidence/fuzz.json

``flips``: one bit in every byte of small files, and so many random bits in large ones; a flip that is read
without an error of Freehold's own is a miss. ``fuzz``: claims and bundles altered in their fields, signed and
packed again; an error of another kind is a miss, and the most memory that the process held is reported.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from evidence_kit import EXAMINER, inside, repacked, signed, statement

from freehold.errors import FreeholdError
from freehold.evidence.bundle import read_bundle
from freehold.evidence.check import Known, check_bundle
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


STRANGE: tuple[Any, ...] = (
    None, True, 0, -1, 1, 2**31, 2**63, 2**64, 10**38, 0.5, 1e308, "", "x", "0" * 64, "a" * 2000, "../x",
    "\0", "\ud7ff",
    [], [0], [[]], {}, {"a": 1}, ["x"] * 50, "2026-01-31T12:00:00Z", "passport", "ptynet", "trigger-set",
)  # fmt: skip


def holders(data: Any) -> Iterator[Any]:
    if isinstance(data, dict | list):
        yield data
        for value in data.values() if isinstance(data, dict) else data:
            yield from holders(value)


def bent(data: Any, draws: random.Random) -> Any:
    """A copy with one to three fields altered, added, doubled or taken away."""
    data = copy.deepcopy(data)
    for _ in range(draws.randint(1, 3)):
        holder = draws.choice(list(holders(data)))
        if not holder:
            continue
        key = draws.choice(sorted(holder)) if isinstance(holder, dict) else draws.randrange(len(holder))
        way = draws.random()
        if way < 0.1:
            del holder[key]
        elif way < 0.2 and isinstance(holder, dict):
            holder[draws.choice(["more", "format", "layers", "secret"])] = draws.choice(STRANGE)
        elif way < 0.3 and isinstance(holder, list):
            holder.append(holder[key])
        else:
            holder[key] = draws.choice(STRANGE)
    return data


def noise(content: bytes, draws: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(draws.randint(1, 8)):
        at, size = draws.randrange(len(data) + 1), draws.randint(0, 40)
        data[at : at + size] = draws.randbytes(draws.choice([0, size, 4]))
    return bytes(data)


def cases(draws: random.Random) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Endless: what is bent, and the content."""
    claims = [(VECTORS / name).read_bytes() for name in ("claim.json", "claim-stamped.json")]
    bundles = [(VECTORS / name).read_bytes() for name in ("bundle.zip", "bundle-signed.zip")]
    said = [inside(content) for content in bundles]

    def refilled(name: str) -> bytes:
        files = dict(draws.choice(said))
        if draws.random() < 0.3:
            files[name] = noise(files[name], draws)
        else:
            files[name] = json.dumps(
                bent(json.loads(files[name]), draws), separators=(",", ":"), sort_keys=True
            ).encode()
        return repacked(files)

    def recased() -> bytes:
        files = dict(draws.choice(said))
        case = bent(json.loads(files["case.json"]), draws)
        return repacked(
            files, lambda data: (data.clear(), data.update(case)) if isinstance(case, dict) else None
        )

    ways: dict[str, Callable[[], bytes]] = {
        "claim, its bytes": lambda: noise(draws.choice(claims), draws),
        "claim, its fields, signed": lambda: signed(bent(statement(claims[0]), draws)),
        "envelope, its fields": lambda: (
            json.dumps(bent(json.loads(draws.choice(claims)), draws), indent=1) + "\n"
        ).encode(),
        "bundle, its bytes": lambda: noise(draws.choice(bundles), draws),
        "bundle, its case": recased,
        "bundle, its key": lambda: refilled("opening.json"),
        "bundle, its answers": lambda: refilled("answers.json"),
        "bundle, tensors": lambda: repacked(
            {**draws.choice(said), "learned.safetensors": draws.randbytes(draws.randint(0, 99))}
        ),
    }
    while True:
        way = draws.choice(list(ways))
        yield way, ways[way]


def fuzz(minutes: float, path: Path, seed: int) -> dict[str, Any]:
    draws, tried, read_in, other = random.Random(seed), Counter(), Counter(), Counter()
    start, before = time.monotonic(), peak()
    for way, made in cases(draws):
        if time.monotonic() - start > 60 * minutes:
            break
        try:
            content = made()
        except (FreeholdError, ValueError, TypeError, AttributeError, UnicodeEncodeError):
            continue  # what is bent so far that it cannot even be written down
        tried[way] += 1
        try:
            if way.startswith("bundle"):
                path.write_bytes(content)
                checked = check_bundle(read_bundle(path), Known())
                read_in[way] += all(link.state != "fails" for link in checked.links)
            else:
                read(content)
                read_in[way] += 1
        except FreeholdError:
            pass
        except Exception as error:
            other[f"{way}: {type(error).__name__}: {error!s:.80}"] += 1
    return {
        "minutes": minutes,
        "tried": sum(tried.values()),
        "by kind": tried,
        "no link fails": read_in,
        "other errors": other,
        "memory_mib_before": before,
        "memory_mib_most": peak(),
    }


def peak() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["flips", "fuzz"])
    parser.add_argument("--random", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.what == "fuzz":
            found: dict[str, Any] = fuzz(given.minutes, folder / "b.zip", given.seed)
        else:
            draws = random.Random(given.seed)
            files = {path.name: path.read_bytes() for path in sorted(VECTORS.iterdir())}
            files["large.zip"] = large(folder)
            found = {
                n: flips(data, given.random, folder / f"x{Path(n).suffix}", draws)
                for n, data in files.items()
            }
    out = given.out or RESULTS / f"{given.what}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"versions": versions(), "found": found}, indent=1) + "\n"
    out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
