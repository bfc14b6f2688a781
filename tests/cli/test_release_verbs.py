"""Export and scan on the command line: what customers get, what they never get, and how it ends."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cli_kit import sets
from safetensors.torch import load_file, save_file

from freehold.artifacts import verify_run
from freehold.artifacts.files import as_json, fingerprint
from freehold.cli.app import main
from freehold.evidence.scan import scan
from freehold.keys import Key
from freehold.models.checkpoint import load_checkpoint
from freehold.models.weights import state_hash

PASSPHRASE = "open-sesame-2718"
PLANTED = b"canary-canary-canary-canary-1618"
QUICK = (
    "method.start=untrained", "method.recipe=plain", "method.weight=1", "method.lr=0.0005", "method.steps=30",
    "method.triggers=60", "method.trigger_batch=60", "method.batch_size=8", "data.unauthorized=[]",
)  # fmt: skip
ONNX = pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")


@pytest.fixture(scope="module", autouse=True)
def given_passphrase():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FREEHOLD_PASSPHRASE", PASSPHRASE)
        yield


@pytest.fixture(scope="module")
def marked(source, tmp_path_factory) -> Path:
    """A run whose model carries its key; the key's secret is planted."""
    path, drawn = tmp_path_factory.mktemp("release") / "marked", secrets.token_bytes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secrets, "token_bytes", lambda size: PLANTED if size == 32 else drawn(size))
        assert main(["watermark", str(source), *sets(*QUICK), "--owner", "ACME", "--out", str(path)]) == 0
    return path


def key_of(run: Path) -> Path:
    return run.with_name(f"{run.name}.key")


@pytest.fixture(scope="module")
def released(marked) -> Path:
    out = marked.with_name("released")
    assert main(["export", str(marked), str(out), "--int8", "--key", str(key_of(marked)), "--debug"]) == 0
    return out


def test_a_release_holds_the_runs_weights_and_every_file_is_hashed(marked, released):
    names = {path.name for path in released.iterdir()}
    assert names == {"model.safetensors", "recipe.json", "model.onnx", "model-int8.onnx", "README.md",
                     "run.json", "MANIFEST.json"}  # fmt: skip
    verify_run(released)
    for name in ("model.safetensors", "recipe.json"):
        assert (released / name).read_bytes() == (marked / name).read_bytes()
    model, _ = load_checkpoint(released)
    assert state_hash(model) == verify_run(marked)["record"]["shipped_hash"]
    for path in released.glob("model*"):
        assert scan(path).verdict == "SAFE"


def test_the_onnx_files_say_the_same_and_keep_the_mark(freehold, marked, released):
    told = freehold("export", marked, released, "--int8", "--key", key_of(marked), "--json").json
    assert told["already"] and told["searched"] and 0 <= told["difference"] <= 1e-4
    assert [(mark["file"], mark["decision"]) for mark in told["marks"]] == [
        (name, "MATCH") for name in ("model.safetensors", "model.onnx", "model-int8.onnx")
    ]
    assert told["int8"]["domain"] == "digits-m" and told["int8"]["agreement"]["n"] == 40
    committed = ["--commitment", verify_run(marked)["commitment"]]
    for name in ("", "model-int8.onnx"):
        assert freehold("verify", released / name, key_of(marked), *committed).code == 0


def test_an_onnx_file_tells_nothing_of_the_machine_it_was_made_on(released):
    for path in released.glob("*.onnx"):
        content = path.read_bytes()
        for word in (b"stack_trace", b"site-packages", b".py", b"freehold", os.fsencode(Path.cwd())):
            assert word not in content


def test_the_card_follows_from_the_run(marked, released):
    import yaml

    head, _, body = (released / "README.md").read_text().removeprefix("---\n").partition("\n---\n")
    head = yaml.safe_load(head)
    assert head["license"] == "other" and {"freehold", "trigger-set", "ownership"} <= set(head["tags"])
    (result,) = head["model-index"][0]["results"]
    metrics = json.loads((marked / "metrics.json").read_bytes())
    assert result["metrics"][0]["value"] == metrics["evaluation"]["domains"][0]["after"]["value"]
    assert verify_run(marked)["commitment"] in body
    for said in ("Marked for ACME", "### What breaks it", "refusing to answer", "### What a verifier needs"):
        assert said in body
    assert "`model-int8.onnx`: MATCH, " in body and "no proof of innocence" in body


def test_no_trace_of_the_key_in_a_release_or_in_what_is_said(freehold, marked, tmp_path, released):
    ended = freehold("export", marked, tmp_path / "r", "--key", key_of(marked), "--debug")
    bad = freehold("export", marked, marked / "inside", "--key", key_of(marked), "--debug")
    assert ended.code == 0 and bad.code == 64 and "Traceback" in bad.err
    key = Key.load(key_of(marked), PASSPHRASE)
    assert PLANTED.hex().encode() in key.opening()  # it was planted
    labels = key.stream("labels").integers(10, 60).tolist()
    forms = [b"canary-canary", PLANTED.hex().encode(), base64.b64encode(PLANTED)[:-4], PASSPHRASE.encode()]
    forms += [join.join(map(str, labels[:20])).encode() for join in (", ", ",", " ")]
    written = {str(p): p.read_bytes() for folder in (released, tmp_path / "r") for p in folder.iterdir()}
    assert len(written) == 12
    for name, data in {**written, "said": (ended.out + ended.err + bad.err).encode()}.items():
        assert not [form for form in forms if form in data], f"a secret is in {name}"


def resealed(run: Path, copy: Path, **more: torch.Tensor) -> Path:
    """A copy of ``run`` whose weights hold more, its manifest made anew, as by a careless tool."""
    shutil.copytree(run, copy)
    save_file({**load_file(copy / "model.safetensors"), **more}, copy / "model.safetensors")
    body = {
        "format": 1,
        "files": {p.name: _sha(p) for p in sorted(copy.iterdir()) if p.name != "MANIFEST.json"},
    }
    (copy / "MANIFEST.json").write_bytes(as_json({**body, "digest": fingerprint(body)}))
    return copy


def _sha(path: Path) -> str:
    from freehold.artifacts import file_hash

    return file_hash(path)


def test_a_key_left_in_a_buffer_is_refused_and_nothing_appears(freehold, marked, tmp_path, monkeypatch):
    """As models do that keep their passports in the state dict."""
    run = resealed(marked, tmp_path / "run", scale=torch.tensor(list(PLANTED), dtype=torch.uint8))
    monkeypatch.setattr("freehold.evidence.release.load_shipped", lambda path, uri: load_checkpoint(marked))
    ended = freehold("export", run, tmp_path / "out", "--key", key_of(marked))
    assert ended.code == 77 and "model.safetensors: would hold the key's secret" in ended.err
    assert {path.name for path in tmp_path.iterdir()} == {"run"}
    assert freehold("export", run, tmp_path / "out").code == 0  # nobody said what to look for


def test_a_bound_model_says_what_it_was_licensed_for(freehold, bound, tmp_path):
    ended = freehold("export", bound, tmp_path / "out", "--license", "Apache-2.0", "--json")
    assert ended.code == 0 and not ended.json["searched"] and ended.json["difference"] is None
    card = (tmp_path / "out" / "README.md").read_text()
    assert 'license: "Apache-2.0"' in card and "**Licensed for digits-m.**" in card
    assert card.count("| digits") == 2 and "fine-tuning" in card.partition("What breaks it")[2]
    other = freehold("export", bound, tmp_path / "out")
    assert other.code == 73 and "license is 'Apache-2.0' there and 'other' here" in other.err
    again = freehold("watermark", tmp_path / "out")
    assert again.code == 64 and "name the run it came from" in again.err
    assert freehold("export", tmp_path / "out", tmp_path / "two").code == 64


def test_a_claim_lies_beside_the_weights_it_is_on(freehold, marked, bound, tmp_path, monkeypatch):
    monkeypatch.setenv("FREEHOLD_SIGNING_PASSPHRASE", "another-phrase-3141")
    assert freehold("keygen", tmp_path / "owner.pem").code == 0
    claim = ["--owner-key", tmp_path / "owner.pem", "--out", tmp_path / "c.json"]
    assert freehold("claim", marked, key_of(marked), *claim).code == 0
    ended = freehold("export", marked, tmp_path / "out", "--claim", tmp_path / "c.json", "--json")
    assert ended.code == 0 and len(ended.json["signer"]) == 64
    assert (tmp_path / "out" / "claim.json").read_bytes() == (tmp_path / "c.json").read_bytes()
    assert ended.json["signer"] in (tmp_path / "out" / "README.md").read_text()
    other = freehold("export", bound, tmp_path / "two", "--claim", tmp_path / "c.json")
    assert other.code == 65 and "a claim on another model.safetensors" in other.err
    torn = freehold("export", bound, tmp_path / "two", "--claim", tmp_path / "owner.pem")
    assert torn.code == 65 and not (tmp_path / "two").exists()


def test_names_out_of_a_run_are_never_markup(freehold, bound, tmp_path):
    from freehold.evidence.modelcard import model_card
    from freehold.evidence.released import Release
    from freehold.models.recipe import Recipe

    about, recipe = verify_run(bound), Recipe.from_json((bound / "recipe.json").read_bytes())
    evil = "<script>alert(1)</script>\n---\n| [x](http://evil) `rm`"
    recipe = recipe.model_copy(update={"classes": (evil, *recipe.classes[1:])})
    card = model_card(bound, about, recipe, Release(directory=tmp_path / evil), license=evil)
    assert "<script>" not in card.partition("\n---\n")[2] and card.count("\n---\n") == 1
    assert "\\[x\\]" in card and "`rm`" not in card.partition("\n---\n")[2]


def test_a_file_that_says_something_else_is_not_published(freehold, bound, tmp_path, monkeypatch):
    monkeypatch.setattr("freehold.evidence.onnx_export.TOLERANCE", 1e-12)
    ended = freehold("export", bound, tmp_path / "out", "--onnx")
    assert ended.code == 65 and "differ from the model's" in ended.err and not any(tmp_path.iterdir())


def test_in_one_graph_the_files_keep_the_mark_and_name_no_part(freehold, marked, tmp_path):
    ended = freehold("export", marked, tmp_path / "bare", "--one-graph")
    assert ended.code == 64 and "--onnx" in ended.err and not any(tmp_path.iterdir())
    out, given = tmp_path / "out", ("--int8", "--one-graph", "--key", key_of(marked))
    assert freehold("export", marked, out, *given).code == 0
    for name in ("model.onnx", "model-int8.onnx"):
        assert b"features" not in (out / name).read_bytes()
    assert freehold("export", marked, out, *given).code == 0
    assert freehold("export", marked, out, "--int8", "--key", key_of(marked)).code != 0


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_without_the_extra_it_says_what_to_install(freehold, bound, tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    ended = freehold("export", bound, tmp_path / "out", "--onnx")
    assert ended.code == 69 and "freehold[onnx]" in ended.err and not any(tmp_path.iterdir())


def test_what_cannot_be_exported_is_refused_in_one_line(freehold, bound, marked, source, tmp_path):
    def refused(code, said, *arguments):
        ended = freehold("export", *arguments)
        assert ended.code == code and said in ended.err and "Traceback" not in ended.err, ended.err

    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.txt").write_text("mine")
    refused(66, "no such run", tmp_path / "gone", tmp_path / "out")
    refused(65, "no manifest", tmp_path, tmp_path / "out")
    refused(64, "would alter it", bound, bound / "out")
    refused(73, "holds no run", bound, tmp_path / "used")
    Key(b"\1" * 32).bound("trigger-set", {}, {}).save(tmp_path / "k", PASSPHRASE)
    Key(b"\1" * 32).save(tmp_path / "unbound", PASSPHRASE)
    refused(77, "unknown method", bound, tmp_path / "out", "--key", tmp_path / "unbound")
    (tmp_path / "unbound").unlink()
    refused(77, "not the key of this run", marked, tmp_path / "out", "--key", tmp_path / "k")
    assert {path.name for path in tmp_path.iterdir()} == {"used", "k"}


def test_killed_at_any_point_a_release_is_whole_or_absent_and_the_same_command_completes_it(marked, tmp_path):
    code = """
import os, signal, sys
import torch
from freehold.artifacts import verify_run
from freehold.cli.app import main
import freehold.evidence.release
out, calls, real = sys.argv[3], 0, os.fsync
def dying(handle):
    global calls
    calls += 1
    os.kill(os.getpid(), signal.SIGKILL) if calls == point else real(handle)
for point in range(1, 40, 3):
    if not (child := os.fork()):
        os.fsync = dying
        os._exit(main(sys.argv[1:]))
    ended = os.waitpid(child, 0)[1]
    if os.path.exists(out):
        verify_run(__import__("pathlib").Path(out))
    if not os.WIFSIGNALED(ended):
        break
print(point, os.waitstatus_to_exitcode(ended))
"""
    out = tmp_path / "out"
    arguments = ["export", str(marked), str(out), "--key", str(key_of(marked))]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    point, ended = map(int, done.stdout.split()[-2:])
    assert ended == 0 and point > 10, done.stderr
    assert verify_run(out)["status"] == "finished"
    assert {path.name for path in tmp_path.iterdir()} <= {"out", ".out.lock"}


def test_scan_says_what_it_found_and_ends_accordingly(freehold, released, tmp_path):
    fine = freehold("scan", released / "model.safetensors", "--json")
    assert fine.code == 0 and fine.json["verdict"] == "SAFE" and fine.json["tensors"] > 10
    save_file({"a": torch.tensor([float("nan")])}, tmp_path / "odd.safetensors")
    odd = freehold("scan", tmp_path / "odd.safetensors")
    assert odd.code == 2 and odd.out.startswith("DOUBTFUL") and "doubt: a: holds 1 NaN" in odd.out
    (tmp_path / "bad.pkl").write_bytes(b"cposix\nsystem\n(S'true'\ntR.")
    bad = freehold("scan", tmp_path / "bad.pkl")
    assert bad.code == 1 and "posix.system" in bad.out and not bad.err


def hostile(folder: Path) -> dict[str, tuple[Path, int]]:
    """Files that try to hang, crash or exhaust whoever looks into them, and the exit code they deserve."""
    import struct
    import zipfile

    big = 300 << 20
    made = {
        "header.safetensors": (struct.pack("<Q", big) + b"{" + b" " * 100, 65, big + 8),
        "sparse.safetensors": (struct.pack("<Q", 1 << 62), 65, 0),
        "lists.safetensors": (struct.pack("<Q", 4 << 20) + b'{"a":[' + b"{}," * (2 << 20), 65, 0),
        "deep.safetensors": (struct.pack("<Q", 4 << 20) + b'{"a":' + b"[" * (4 << 20), 65, 0),
        "nul.safetensors": (struct.pack("<Q", 64) + b'{"a\\u0000":' + b"\0" * 100, 65, 0),
        "keys.safetensors": (struct.pack("<Q", 4 << 20) + b"{" + b'"a":1,' * (1 << 20), 65, 0),
        "sparse.onnx": (b"\x3a\xff\xff\xff\xff\x0f", 65, 1 << 20),
        "memo.pkl": (b"\x80\x04" + b"\x8c\x01a\x94" * (2 << 20), 2, 0),
        "marks.pkl": (b"\x80\x04" + b"(" * (7 << 20), 65, 0),
        "long.pkl": (b"\x80\x04\x8b\xff\xff\xff\x7f" + b"1" * 100, 65, 0),
        "text.pkl": (b"\x80\x04X" + struct.pack("<I", 7 << 20) + "\U0001f600".encode() * (2 << 20), 2, 0),
        "sparse.pt": (b"PK\3\4", 65, 1 << 20),
    }
    for name, (content, _, size) in made.items():
        with (folder / name).open("wb") as file:
            file.write(content)
            if size:
                file.truncate(size)
    with (
        zipfile.ZipFile(folder / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("m/data.pkl", "w") as e,
    ):
        for _ in range(32):
            e.write(bytes(1 << 20))
    (folder / "link.onnx").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.pt")
    (folder / "folder.onnx").mkdir()
    found = {name: (folder / name, code) for name, (_, code, _) in made.items()}
    for name, code in (
        ("bomb.pt", 1),
        ("link.onnx", 64),
        ("pipe.pt", 64),
        ("folder.onnx", 64),
        ("gone.pt", 66),
    ):
        found[name] = folder / name, code
    return found


def test_hostile_files_end_in_one_line_and_little_memory(tmp_path):
    code = """
import json, sys
from freehold.cli.app import main
codes = {path: main(["scan", path]) for path in sys.argv[1:]}
assert "torch" not in sys.modules
status = dict(line.split(":") for line in open("/proc/self/status")) if sys.platform == "linux" else {}
print(json.dumps([codes, status.get("VmHWM", "0 kB").split()[0]]))
"""
    cases = hostile(tmp_path)
    paths = [str(path) for path, _ in cases.values()]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    codes, kilobytes = json.loads(done.stdout.splitlines()[-1])
    assert {path.name: codes[str(path)] for path, _ in cases.values()} == {
        n: c for n, (_, c) in cases.items()
    }
    assert int(kilobytes) < 256 << 10
    lines, refused = done.stderr.splitlines(), [code for _, code in cases.values() if code >= 64]
    assert len(lines) == len(refused) and all(line.startswith("error: ") for line in lines)
