"""Makes the test vectors of the evidence format anew: python tests/vectors/make.py.

Only the time stamp differs from run to run. What is in ``valid`` holds; ``invalid`` is damaged or badly
formed; ``invalid-payload`` is well formed and, where it is a claim, well signed, and says what must not be
accepted.
"""

from __future__ import annotations

import base64
import io
import json
import stat
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "src")]

from authority_kit import Authority  # noqa: E402
from evidence_kit import EXAMINER, OWNER, THIEF, bundle, inside, repacked, signed, statement  # noqa: E402
from ownership_kit import knowing, trigger_key  # noqa: E402

from freehold.evidence import bundle_writing  # noqa: E402
from freehold.evidence.claim import CLAIM  # noqa: E402
from freehold.evidence.signature import public_bytes  # noqa: E402
from freehold.evidence.statement import STATEMENT, read_envelope, root_of, subjects  # noqa: E402
from freehold.evidence.strict import canonical  # noqa: E402
from freehold.keys import Key  # noqa: E402
from freehold.ownership.trigger_set import TriggerSet  # noqa: E402

FILES = {"model.onnx": "aa" * 32, "model.safetensors": "bb" * 32, "notes/README.md": "cc" * 32}
SOFTWARE = {"freehold": "0.1.0", "python": "3.11.7"}
MADE = "2026-01-31T12:00:00Z"


def key(number: int = 1) -> Key:
    return trigger_key(number, method=TriggerSet(triggers=20)).released("dd" * 32)


def said(found: Key) -> dict[str, Any]:
    files = subjects(FILES)
    return {
        "_type": STATEMENT,
        "subject": [file.model_dump(mode="json") for file in files],
        "predicateType": CLAIM,
        "predicate": {
            "owner": found.owner,
            "signer": public_bytes(OWNER).hex(),
            "root": root_of(files),
            "state": found.facts["released"],
            "weights": "model.safetensors",
            "method": found.method,
            "settings": dict(found.settings),
            "test": {"alpha": 1e-6, "null": "exact", "rate": 0.1, "trials": 20},
            "commitment": found.commitment,
            "made": MADE,
            "software": SOFTWARE,
        },
    }


def altered(claim: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """A claim that says something else, signed again."""
    data = statement(claim)
    change(data)
    return signed(data)


def outer(claim: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """A claim file with another envelope, in the form that envelopes have."""
    data = json.loads(claim)
    change(data)
    return (json.dumps(data, indent=1) + "\n").encode()


def zipped(
    entries: list[tuple[str, bytes]], *, how: int = zipfile.ZIP_STORED, mode: int = stat.S_IFREG | 0o600
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, data in entries:
            info = zipfile.ZipInfo(name)
            info.compress_type, info.external_attr, info.create_system = how, mode << 16, 3
            archive.writestr(info, data)
    return buffer.getvalue()


def predicate(**fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda data: data["predicate"].update(fields)


def test(**fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda data: data["predicate"]["test"].update(fields)


def subject(index: int, name: str) -> Callable[[dict[str, Any]], object]:
    return lambda data: data["subject"][index].update(name=name)


def payload(text: bytes) -> bytes:
    """An envelope around any bytes, well signed."""
    from freehold.evidence.statement import envelope

    return envelope(text, OWNER).to_bytes()


def vectors(folder: Path) -> dict[str, bytes]:
    """Content by path."""
    own = key()
    claim = signed(said(own))
    signature = read_envelope(claim, where="claim").signature
    authority = Authority(folder / "authority")
    stamped = read_envelope(claim, where="claim").stamped(authority.about(signature)).to_bytes()
    whole = bundle(folder / "whole.zip", claim, own).read_bytes()
    few = bundle(folder / "few.zip", claim, own, knowing(own, 0.1)).read_bytes()
    files = inside(whole)
    plain = list(files.items())
    first = base64.b64encode(base64.b64decode(json.loads(claim)["payload"]) + b" ").decode()
    text = canonical(said(own))
    loose = (
        first[:-3] + chr(ord(first[-3]) + 1) + "=="
        if first.endswith("==")
        else first[:-2] + chr(ord(first[-2]) + 1) + "="
    )

    def two(data: dict[str, Any]) -> None:
        data["signatures"] *= 2

    def resigned(change: Callable[[dict[str, Any]], object], signer=OWNER) -> bytes:
        data = said(own)
        change(data)
        return signed(data, signer)

    other = json.loads(inside(few)["case.json"])["predicate"]["verdict"]
    right = json.loads(files["answers.json"])
    return {
        "authority.pem": authority.root.read_bytes(),
        "valid/claim.json": claim,
        "valid/claim-no-owner.json": altered(claim, predicate(owner="")),
        "valid/claim-words.json": altered(claim, predicate(owner="Müller & Söhne «KI»")),
        "valid/claim-one-file.json": resigned(
            lambda d: (
                d.update(subject=d["subject"][1:2])
                or d["predicate"].update(root=root_of(subjects({"model.safetensors": "bb" * 32})))
            )
        ),
        "valid/claim-stamped.json": stamped,
        "valid/bundle.zip": whole,
        "valid/bundle-signed.zip": bundle(folder / "s.zip", claim, own, signer=EXAMINER).read_bytes(),
        "valid/bundle-stopped-early.zip": bundle(folder / "e.zip", claim, own, sequential=True).read_bytes(),
        "valid/bundle-without-match.zip": few,
        "invalid/empty.json": b"",
        "invalid/cut.json": claim[:-20],
        "invalid/line-added.json": claim + b"\n",
        "invalid/spaces.json": claim.replace(b"\n ", b"\n  "),
        "invalid/one-line.json": json.dumps(json.loads(claim)).encode(),
        "invalid/other-order.json": outer(claim, lambda d: d.update(payloadType=d.pop("payloadType"))),
        "invalid/unknown-field.json": outer(claim, lambda d: d.update(more=1)),
        "invalid/key-twice.json": claim.replace(b'"payload":', b'"payloadType": "x",\n "payload":'),
        "invalid/payload-type.json": outer(claim, lambda d: d.update(payloadType="application/json")),
        "invalid/payload-altered.json": outer(claim, lambda d: d.update(payload=first)),
        "invalid/payload-loose-base64.json": outer(claim, lambda d: d.update(payload=loose)),
        "invalid/signature-of-zeros.json": outer(
            claim, lambda d: d["signatures"][0].update(sig="A" * 86 + "==")
        ),
        "invalid/signature-short.json": outer(claim, lambda d: d["signatures"][0].update(sig="AAAA")),
        "invalid/signature-twice.json": outer(claim, two),
        "invalid/signature-missing.json": outer(claim, lambda d: d.update(signatures=[])),
        "invalid/key-id.json": outer(claim, lambda d: d["signatures"][0].update(keyid="0" * 64)),
        "invalid/stamp-altered.json": outer(stamped, lambda d: d["timestamp"].update(sha256="0" * 64)),
        "invalid/not-utf-8.json": b"\xff" + claim,
        "invalid/byte-order-mark.json": b"\xef\xbb\xbf" + claim,
        "invalid/deep.json": b"[" * 100_000,
        "invalid/path-upwards.zip": zipped([("../claim.json", files["claim.json"]), *plain]),
        "invalid/path-absolute.zip": zipped([("/etc/passwd", b""), *plain]),
        "invalid/links.zip": zipped(plain, mode=stat.S_IFLNK | 0o777),
        "invalid/compressed.zip": zipped(plain, how=zipfile.ZIP_DEFLATED),
        "invalid/bomb.zip": zipped([("claim.json", bytes(1 << 20)), *plain[1:]], how=zipfile.ZIP_DEFLATED),
        "invalid/name-twice.zip": zipped([plain[0], *plain]),
        "invalid/other-order.zip": zipped(plain[::-1]),
        "invalid/file-added.zip": zipped([*plain, ("more.txt", b"")]),
        "invalid/file-missing.zip": repacked({n: d for n, d in files.items() if n != "claim.json"}),
        "invalid/cut.zip": whole[: len(whole) // 2],
        "invalid/file-of-another.zip": zipped(
            [(n, inside(few)[n] if n == "answers.json" else d) for n, d in plain], mode=0o100600
        ),
        "invalid-payload/no-json.json": payload(b"claim"),
        "invalid-payload/key-twice.json": payload(text[:-1] + b',"predicateType":"urn:freehold:claim:1"}'),
        "invalid-payload/not-a-number.json": payload(text.replace(b'"rate":0.1', b'"rate":NaN')),
        "invalid-payload/infinite.json": payload(text.replace(b'"rate":0.1', b'"rate":1e-1,"x":1e999')),
        "invalid-payload/digits.json": payload(text.replace(b'"trials":20', b'"trials":' + b"2" * 5000)),
        "invalid-payload/deep.json": altered(
            claim, predicate(settings=json.loads('{"a":' * 40 + "1" + "}" * 40))
        ),
        "invalid-payload/unknown-field.json": altered(claim, predicate(more=1)),
        "invalid-payload/missing-field.json": altered(claim, lambda d: d["predicate"].pop("made")),
        "invalid-payload/statement-type.json": altered(
            claim, lambda d: d.update(_type="https://in-toto.io/Statement/v0.1")
        ),
        "invalid-payload/predicate-type.json": altered(
            claim, lambda d: d.update(predicateType="urn:freehold:case:1")
        ),
        "invalid-payload/no-files.json": altered(claim, lambda d: d.update(subject=[])),
        "invalid-payload/files-out-of-order.json": altered(claim, lambda d: d["subject"].reverse()),
        "invalid-payload/file-twice.json": altered(claim, lambda d: d["subject"].append(d["subject"][-1])),
        "invalid-payload/file-upwards.json": altered(claim, subject(0, "../model.onnx")),
        "invalid-payload/file-absolute.json": altered(claim, subject(0, "/model.onnx")),
        "invalid-payload/file-backslash.json": altered(claim, subject(0, "a\\model.onnx")),
        "invalid-payload/file-accent.json": altered(claim, subject(2, "notés")),
        "invalid-payload/digest-upper-case.json": altered(
            claim, lambda d: d["subject"][0]["digest"].update(sha256="AA" * 32)
        ),
        "invalid-payload/digest-of-another-kind.json": altered(
            claim, lambda d: d["subject"][0].update(digest={"sha512": "aa" * 64})
        ),
        "invalid-payload/root.json": altered(claim, predicate(root="0" * 64)),
        "invalid-payload/weights.json": altered(claim, predicate(weights="model.pt")),
        "invalid-payload/level-zero.json": altered(claim, test(alpha=0.0)),
        "invalid-payload/level-high.json": altered(claim, test(alpha=0.1)),
        "invalid-payload/level-as-text.json": altered(claim, test(alpha="1e-6")),
        "invalid-payload/rate.json": altered(claim, test(rate=1.0)),
        "invalid-payload/null.json": altered(claim, test(null="guessed")),
        "invalid-payload/trials-true.json": altered(claim, test(trials=True)),
        "invalid-payload/commitment-short.json": altered(claim, predicate(commitment="ab")),
        "invalid-payload/owner-of-two-lines.json": altered(claim, predicate(owner="A\nB")),
        "invalid-payload/no-method.json": altered(claim, predicate(method="")),
        "invalid-payload/month-13.json": altered(claim, predicate(made="2026-13-01T00:00:00Z")),
        "invalid-payload/zone.json": altered(claim, predicate(made="2026-01-31T12:00:00+01:00")),
        "invalid-payload/signed-by-another.json": signed(said(own), THIEF),
        "invalid-payload/other-key.zip": repacked({**files, "opening.json": key(2).opening()}),
        "invalid-payload/other-weights.zip": repacked(
            {**files, "claim.json": resigned(predicate(state="ee" * 32))}
        ),
        "invalid-payload/answers-altered.zip": repacked(
            {**files, "answers.json": canonical([(right[0] + 1) % 10, *right[1:]])}
        ),
        "invalid-payload/answers-missing.zip": repacked({**files, "answers.json": canonical(right[1:])}),
        "invalid-payload/verdict-of-another.zip": repacked(
            inside(few), predicate(verdict=other | {"matches": 20})
        ),
        "invalid-payload/p-value.zip": repacked(
            inside(few), lambda case: case["predicate"]["verdict"].update(p_value=1e-20)
        ),
        "invalid-payload/match-without.zip": repacked(
            inside(few), lambda case: case["predicate"]["verdict"].update(decision="MATCH")
        ),
        "invalid-payload/level-laxer-than-claimed.zip": repacked(
            {**files, "claim.json": resigned(test(alpha=1e-12))}
        ),
    }


def main() -> None:
    bundle_writing.now, bundle_writing.versions = (lambda: MADE), (lambda: SOFTWARE)  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder:
        for name, content in vectors(Path(folder)).items():
            path = HERE / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)


if __name__ == "__main__":
    main()
