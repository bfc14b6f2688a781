"""Check a claim or bundle by docs/evidence-format.md alone; not time, images, scores or weights: FILE."""

import base64
import hashlib
import hmac
import json
import re
import struct
import sys
import zipfile
from datetime import datetime
from math import comb
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

KIND, WORD, NAME = "application/vnd.in-toto+json", "[0-9a-f]{64}", r"[ -\[\]-~]{1,500}"
WHEN, LINE = r"\d{4}(-\d\d){2}T\d\d(:\d\d){2}Z", "[^\0-\x1f\x7f-\x9f\u2028\u2029]{0,1000}"
TERMS = dict.fromkeys(["owner", "signer", "root", "state", "weights", "method", "commitment", "made"], str)
TERMS |= dict.fromkeys(("settings", "test", "software"), dict)
TEST = {"alpha": (int, float), "null": str, "rate": (int, float), "trials": int}
NAMES = "claim.json case.json case.dsse.json opening.json learned.safetensors answers.json queries.bin "
NAMES = (NAMES + "scores.bin weights.safetensors page.html").split()


def need(holds, what):
    if not holds:
        raise ValueError(what)


def sha(data):
    return hashlib.sha256(data).hexdigest()


def num(digits):
    need(len(digits) <= 40 and abs(float(digits)) < float("inf"), "a number too long or too large")
    return int(digits) if re.fullmatch("-?[0-9]+", digits) else float(digits)


def strict(data):
    def once(pairs):
        need(len(dict(pairs)) == len(pairs), "a key stands twice")
        return dict(pairs)

    need(len(data) <= 4 << 20, "too large")
    text, depth = data.decode("utf-8"), 0
    for character in text:
        depth += (character in "[{") - (character in "]}")
        need(depth <= 32, "too deep")
    return json.loads(text, object_pairs_hook=once, parse_constant=num, parse_int=num, parse_float=num)


def fields(data, kinds):
    need(isinstance(data, dict) and set(data) == set(kinds), f"not the fields {', '.join(kinds)}")
    for name, kind in kinds.items():
        need(isinstance(data[name], kind) and not isinstance(data[name], bool), f"{name} of another kind")


def statement(said, kind, most):
    data, files = strict(said), {}
    fields(data, {"_type": str, "subject": list, "predicateType": str, "predicate": dict})
    need((data["_type"], data["predicateType"]) == ("https://in-toto.io/Statement/v1", kind), "statement")
    for file in data["subject"]:
        need(set(file) == {"name", "digest"} and set(file["digest"]) == {"sha256"}, "subject")
        name, files[file["name"]] = file["name"], file["digest"]["sha256"]
        need(re.fullmatch(WORD, files[name]) and re.fullmatch(NAME, name), "no digest or file name")
        need(not {"", ".", ".."} & set(name.split("/")), "no path inside a folder")
    need(1 <= len(files) <= most and [f["name"] for f in data["subject"]] == sorted(files), "order")
    return files, data["predicate"]


def decoded(text):
    raw = base64.b64decode(text, validate=True)
    need(base64.b64encode(raw).decode() == text, "base64 in another form")
    return raw


def envelope(data):
    outer, order = strict(data), ["payloadType", "payload", "signatures"]
    need((json.dumps(outer, indent=1) + "\n").encode() == data, "not in its one form")
    need(list(outer) in (order, [*order, "timestamp"]) and len(outer["signatures"]) == 1, "envelope")
    need(outer["payloadType"] == KIND and list(outer["signatures"][0]) == ["keyid", "sig"], "signature")
    if stamp := outer.get("timestamp"):
        known = list(stamp) == ["reply", "sha256"] and len(stamp["reply"]) <= 1 << 16
        need(known and sha(decoded(stamp["reply"])) == stamp["sha256"], "time stamp altered")
    return decoded(outer["payload"]), *map(outer["signatures"][0].get, ("keyid", "sig"))


def check_claim(data):
    said, keyid, signature = envelope(data)
    files, terms = statement(said, "urn:freehold:claim:1", 10_000)
    fields(terms, TERMS)
    fields(test := terms["test"], TEST)
    need(0 < test["alpha"] <= 0.05 and 0 < test["rate"] < 1 and 1 <= test["trials"] <= 1 << 32, "test")
    need(test["null"] in ("exact", "measured") and terms["method"] and terms["weights"] in files, "test")
    need(all(re.fullmatch(WORD, terms[n]) for n in ("signer", "root", "state", "commitment")), "hex")
    lines = [terms["owner"], terms["method"], *terms["software"], *terms["software"].values()]
    need(all(re.fullmatch(LINE, text) for text in lines) and re.fullmatch(WHEN, terms["made"]), "text")
    datetime.fromisoformat(terms["made"][:-1])
    need(terms["root"] == sha("".join(f"{d}  {n}\n" for n, d in files.items()).encode()), "root")
    need(keyid == sha(public := bytes.fromhex(terms["signer"])), "key id")
    sealed = f"DSSEv1 {len(KIND)} {KIND} {len(said)} ".encode() + said
    Ed25519PublicKey.from_public_bytes(public).verify(decoded(signature), sealed)
    return terms


def labels(secret, path, bound, count):
    parts = b"".join(b"s" + struct.pack(">I", len(part.encode())) + part.encode() for part in path)
    inner, found, calls = hmac.digest(secret, b"freehold/stream/1" + parts, "sha256"), [], 0
    while len(found) < count:
        calls += 1
        drawn = hashlib.shake_256(inner + struct.pack(">Q", calls)).digest(4 * (count - len(found)))
        found += [w % bound for (w,) in struct.iter_unpack("<I", drawn) if w < 2**32 // bound * bound]
    return found


def check_bundle(path):
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        need([e.filename for e in entries] == [n for n in NAMES if n in archive.namelist()], "files")
        need(all((e.compress_type, e.external_attr >> 16) == (0, 0o100600) for e in entries), "entries")
        files = {entry.filename: archive.read(entry) for entry in entries}
    said, opening, apart = files["case.json"], files["opening.json"], ("case.json", "case.dsse.json")
    terms, (named, found) = check_claim(files["claim.json"]), statement(said, "urn:freehold:case:1", 16)
    need(named == {name: sha(data) for name, data in files.items() if name not in apart}, "another file")
    need("case.dsse.json" not in files or envelope(files["case.dsse.json"])[0] == said, "another record")
    need(sha(b"freehold/commitment/1\0" + opening) == terms["commitment"], "commitment")
    key, answers, verdict = strict(opening), strict(files["answers.json"]), found["verdict"]
    bound = {**key, "state": key["facts"]["released"]}
    need(all(bound[n] == terms[n] for n in ("owner", "method", "settings", "state")), "another key")
    need(len(answers) == found["queries"]["count"], "answers")
    if terms["method"] == "trigger-set" and not verdict["sequential"]:
        classes, n = key["facts"]["num_classes"], len(answers)
        drawn = labels(bytes.fromhex(key["secret"]), (key["owner"], key["method"], "labels"), classes, n)
        right = sum(a == b for a, b in zip(answers, drawn, strict=True))
        chance = sum(comb(n, k) * (classes - 1) ** (n - k) for k in range(right, n + 1)) / classes**n
        need((verdict["matches"], verdict["trials"]) == (right, n), "matches")
        need(abs(verdict["p_value"] / chance - 1) < 1e-9, "p-value")
        level = verdict["alpha"] if verdict["alpha"] <= terms["test"]["alpha"] else 0
        need(verdict["decision"] != "MATCH" or chance <= level, "decision")
    return terms


if __name__ == "__main__":
    try:
        data = Path(sys.argv[1]).read_bytes()
        terms = check_bundle(sys.argv[1]) if data[:2] == b"PK" else check_claim(data)
    except Exception as fault:
        sys.exit(f"does not hold: {type(fault).__name__} {fault}")
    print(f"holds: a claim of {terms['owner']}, {terms['method']}, signed by {terms['signer']}")
