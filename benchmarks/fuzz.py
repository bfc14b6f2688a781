"""Random and guided changes of what freehold reads from strangers: only its own errors, little memory.

    python benchmarks/fuzz.py [SECONDS] [TARGET ...]

SECONDS are for each target, 60 by default. With atheris (pip install atheris) the changes are guided by
coverage, without it they are random. Writes benchmarks/results/evidence/fuzz.json. A new target is one entry
of TARGETS: something that gives sound inputs, and something that reads one.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "evidence" / "fuzz.json"
VECTORS = Path(__file__).parents[1] / "tests" / "vectors"
Read = Callable[[bytes], object]


def safetensors() -> tuple[list[bytes], Read]:
    from freehold.evidence.scan.report import Notes
    from freehold.evidence.scan.safetensors import scan_safetensors

    header = json.dumps(
        {"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}, "__metadata__": {"b": "c"}}
    )
    sound = len(header).to_bytes(8, "little") + header.encode() + bytes(16)
    return [sound], lambda data: scan_safetensors(io.BytesIO(data), len(data), "x", Notes())


def onnx() -> tuple[list[bytes], Read]:
    from numpy import ones
    from onnx import TensorProto, helper, numpy_helper

    from freehold.evidence.scan.onnx import scan_onnx
    from freehold.evidence.scan.report import Notes

    value = [helper.make_tensor_value_info(name, 1, [2]) for name in "xy"]
    outside = TensorProto(name="o", data_type=1, dims=[2], data_location=1)
    outside.external_data.add(key="location", value="w.bin")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", value[:1], value[1:],
                              [numpy_helper.from_array(ones(2, "f4"), "w"), outside])  # fmt: skip
    sound = helper.make_model(graph).SerializeToString()
    return [sound], lambda data: scan_onnx(io.BytesIO(data), len(data), Path("nowhere/x"), Notes())


def pickles() -> tuple[list[bytes], Read]:
    from freehold.evidence.scan.pickles import scan_pickle
    from freehold.evidence.scan.report import Notes

    plain = [pickle.dumps({"a": [1, 2.5, "b"], "c": (None, b"d")}, protocol) for protocol in range(6)]
    asking = [b"cposix\nsystem\n(S'true'\ntR.", b"\x80\x04\x8c\x05torch\x8c\x04Size\x93)R."]
    return [*plain, *asking], lambda data: scan_pickle(data, "x", Notes())


def archives() -> tuple[list[bytes], Read]:
    import zipfile

    from freehold.evidence.scan.archive import scan_archive
    from freehold.evidence.scan.report import Notes

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("m/data.pkl", pickle.dumps({}, 2))
        archive.writestr("m/data/0", bytes(8))
    return [out.getvalue()], lambda data: scan_archive(io.BytesIO(data), len(data), "x", Notes())


def recipes() -> tuple[list[bytes], Read]:
    from freehold.data import InputSpec
    from freehold.models.recipe import Recipe, ResizeHead
    from freehold.models.zoo import ModelSpec

    edits = (ResizeHead(name="head", num_classes=2),)
    sound = Recipe(
        model=ModelSpec(uri="convnet", num_classes=2), input=InputSpec(), classes=("a", "b"), edits=edits
    )
    return [sound.to_json()], Recipe.from_json


def configurations() -> tuple[list[bytes], Read]:
    from freehold.config import load_config

    sound = b'[model]\nuri = "convnet"\n[data]\nauthorized = "digits"\n[method]\nname = "map"\nlr = 0.1\n'
    path = Path(tempfile.mkdtemp()) / "c.toml"

    def read(data: bytes) -> object:
        path.write_bytes(data)
        return load_config(path)

    return [sound], read


def _valid(name: str) -> bytes:
    return (Path(__file__).parents[1] / "tests" / "vectors" / "valid" / name).read_bytes()


def claims() -> tuple[list[bytes], Read]:
    from freehold.evidence.claim import read

    return [_valid("claim.json"), _valid("claim-stamped.json")], read


def statements() -> tuple[list[bytes], Read]:
    """What a claim says, signed again after each change."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from freehold.evidence.claim import read
    from freehold.evidence.statement import envelope, read_envelope

    signer = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
    said = read_envelope(_valid("claim.json"), where="claim").statement
    return [said], lambda data: read(envelope(data, signer).to_bytes())


def bundles() -> tuple[list[bytes], Read]:
    from freehold.evidence.bundle import read_bundle

    path = Path(tempfile.mkdtemp()) / "b.zip"

    def read(data: bytes) -> object:
        path.write_bytes(data)
        return read_bundle(path)

    return [_valid("bundle.zip"), _valid("bundle-signed.zip")], read


def contents() -> tuple[list[bytes], Read]:
    """The case, key or answers of a bundle, packed again after each change, and everything recomputed."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from evidence_kit import inside, repacked

    from freehold.evidence.bundle import read_bundle
    from freehold.evidence.check import Known, check_bundle
    from freehold.evidence.container import archive_of

    path, files = Path(tempfile.mkdtemp()) / "b.zip", inside(_valid("bundle.zip"))
    names = ("case.json", "opening.json", "answers.json")

    def read(data: bytes) -> object:
        changed = {**files, names[data[0] % 3]: data[1:]} if data else files
        same = data and data[0] % 3 == 0  # a case names the files as it likes
        path.write_bytes(archive_of(changed, where="x") if same else repacked(changed))
        return check_bundle(read_bundle(path), Known())

    return [bytes([number]) + files[name] for number, name in enumerate(names)], read


def vaults() -> tuple[list[bytes], Read]:
    """The digest at the end is made to fit, so that changes reach what lies behind it."""
    from freehold.keys import vault

    path = Path(tempfile.mkdtemp()) / "a.key"
    vault.LOG2_N = 14
    vault.write_vault(path, b"plain", "phrase")

    def read(data: bytes) -> object:
        path.write_bytes(data + hashlib.sha256(data).digest())
        return vault.read_vault(path, "phrase")

    return [path.read_bytes()[:-32]], read


TARGETS: dict[str, Callable[[], tuple[list[bytes], Read]]] = {
    "safetensors": safetensors,
    "onnx": onnx,
    "pickle": pickles,
    "torch archive": archives,
    "recipe": recipes,
    "configuration": configurations,
    "claim": claims,
    "statement of a claim": statements,
    "bundle": bundles,
    "contents of a bundle": contents,
    "vault": vaults,
}


def memory() -> int:
    """The most that this process has held so far, MiB."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) >> 10


class Watched:
    """Reads inputs one after another and keeps an account of it in a file."""

    def __init__(self, read: Read, account: Path) -> None:
        self.read, self.account = read, account
        self.told: dict[str, Any] = {"runs": 0, "accepted": 0, "baseline_mib": memory(), "slowest_s": 0.0}

    def __call__(self, data: bytes) -> None:
        from freehold.errors import FreeholdError

        began = time.monotonic()
        try:
            self.read(data)
            self.told["accepted"] += 1
        except FreeholdError:
            pass
        except BaseException as error:
            self.told["crash"] = {"error": repr(error)[:300], "input": data.hex()[:2000]}
            self.tell()
            raise
        self.told["runs"] += 1
        self.told["slowest_s"] = max(self.told["slowest_s"], round(time.monotonic() - began, 3))
        if self.told["runs"] % 500 == 0:
            self.tell()

    def tell(self) -> None:
        self.account.write_text(json.dumps({**self.told, "peak_mib": memory()}))


def changed(data: bytes, draw: random.Random) -> bytes:
    """A few random changes: bytes, cuts, repeats, numbers that are too large."""
    out = bytearray(data)
    for _ in range(draw.randint(1, 6)):
        at, kind = draw.randrange(len(out) + 1), draw.randrange(5)
        if kind == 0 and at < len(out):
            out[at] = draw.randrange(256)
        elif kind == 1:
            del out[at : at + draw.randint(1, 8)]
        elif kind == 2:
            out[at:at] = out[at : at + draw.randint(1, 32)] * draw.randint(1, 4)
        elif kind == 3:
            out[at:at] = draw.choice([b"\xff" * 8, b"9" * 30, b"{" * 50, b"[" * 50, b"\0", b'"', b"(" * 20])
        else:
            out = out[:at]
    return bytes(out)


def one(target: str, seconds: float, account: Path) -> None:
    """Fuzz one target in this process."""
    engine: Any = None
    with suppress(ImportError):
        import atheris as engine  # type: ignore[import-not-found,no-redef]
    if engine is not None:
        with engine.instrument_imports(include=["freehold"]):
            seeds, read = TARGETS[target]()
    else:
        seeds, read = TARGETS[target]()
    watched = Watched(read, account)
    watched.told["engine"] = "atheris" if engine is not None else "random changes"
    for seed in seeds:
        watched(seed)
    watched.tell()
    if engine is None:
        draw, end = random.Random(0), time.monotonic() + seconds
        while time.monotonic() < end:
            watched(changed(draw.choice(seeds), draw))
        watched.tell()
        return
    corpus = account.with_suffix("")
    corpus.mkdir()
    for seed in seeds:
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    options = [f"-max_total_time={seconds:.0f}", "-max_len=65536", "-rss_limit_mb=2048", "-verbosity=0"]
    engine.Setup([sys.argv[0], *options, str(corpus)], watched)
    engine.Fuzz()


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for target in sys.argv[2:] or TARGETS:
        with tempfile.TemporaryDirectory() as folder:
            account = Path(folder) / "account.json"
            command = [sys.executable, __file__, "--one", target, str(seconds), str(account)]
            ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            told = json.loads(account.read_text()) if account.exists() else {"error": ended.stderr[-500:]}
        told |= {"seconds": seconds, "growth_mib": told.get("peak_mib", 0) - told.get("baseline_mib", 0)}
        found[target] = told
        print(target, json.dumps(told))
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    if any("crash" in found[target] or "error" in found[target] for target in sys.argv[2:] or TARGETS):
        sys.exit(1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2], float(sys.argv[3]), Path(sys.argv[4]))
        os._exit(0)
    main()
