"""Marking and verifying on the command line: what is printed, written and kept secret, and how it ends."""

from __future__ import annotations

import base64
import secrets
import shutil
import stat
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from cli_kit import CUTTING, TINY, sets
from neighbour_kit import Neighbour, serving
from torch.nn import functional as F

from freehold.artifacts import verify_run
from freehold.cli.app import main
from freehold.data import InputSpec
from freehold.data.batches import normalise
from freehold.keys import Key
from freehold.models.checkpoint import Recipe, load_checkpoint, save_checkpoint
from freehold.models.zoo import ModelSpec
from freehold.ownership.trigger_set import TriggerSet

PASSPHRASE = "open-sesame-2718"
SHORT = ("method.steps=2", "method.triggers=20", "method.batch_size=8", "method.trigger_batch=8")
SPEC = InputSpec(size=16)
METHOD = TriggerSet(triggers=100)


@pytest.fixture(autouse=True)
def given_passphrase(monkeypatch):
    monkeypatch.setenv("FREEHOLD_PASSPHRASE", PASSPHRASE)


def key_for(spec: InputSpec = SPEC, method: TriggerSet = METHOD, classes: int = 10, secret: int = 5) -> Key:
    facts = {"input": spec.model_dump(mode="json"), "num_classes": classes}
    settings = method.model_dump(mode="json")
    return Key(bytes([secret]) * 32, "ACME").bound(method.name, settings, facts)


def saved(path: Path, spec: InputSpec = SPEC, classes: int = 10) -> Path:
    model = ModelSpec(uri="convnet", num_classes=classes)
    recipe = Recipe(model=model, input=spec, classes=tuple(map(str, range(classes))))
    save_checkpoint(path, model.build(seed=1), recipe)
    return path


@pytest.fixture(scope="module")
def cases(tmp_path_factory, quick_vaults) -> Path:
    """``thief`` knows the answers of ``acme.key``, ``innocent`` does not; other keys and models beside."""
    folder = tmp_path_factory.mktemp("cases")
    saved(folder / "innocent")
    saved(folder / "larger", InputSpec(size=20))
    saved(folder / "seven", classes=7)
    key = key_for()
    key.save(folder / "acme.key", PASSPHRASE)
    key_for(method=TriggerSet(triggers=20)).save(folder / "few.key", PASSPHRASE)
    Key(b"\1" * 32).save(folder / "unbound.key", PASSPHRASE)
    Key(b"\1" * 32).bound("no-method", {}, dict(key.facts)).save(folder / "foreign.key", PASSPHRASE)
    model, recipe = load_checkpoint(folder / "innocent")
    images, labels = normalise(METHOD._images(key), SPEC), METHOD._trials(key).labels
    model.train()
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(30):
        optimiser.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimiser.step()
    save_checkpoint(folder / "thief", model.eval(), recipe)
    return folder


@pytest.fixture(scope="module")
def marked(source) -> Path:
    path = source.with_name("marked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FREEHOLD_PASSPHRASE", PASSPHRASE)
        main(["watermark", str(source), *sets(*SHORT), "--owner", "ACME", "--out", str(path)])
    assert (path / "run.json").exists()
    return path


@pytest.fixture(scope="module")
def marked_by(source) -> Callable[[str], Path]:
    """A run marked by a method, in few steps, its key beside it."""

    @cache
    def mark(method: str) -> Path:
        path, few = source.with_name(method), ("method.steps=2", "method.batch_size=8")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FREEHOLD_PASSPHRASE", PASSPHRASE)
            assert main(["watermark", str(source), *sets(f"method.name={method}", *few),
                         "--owner", "ACME", "--out", str(path)]) in (0, 1)  # fmt: skip
        return path

    return mark


def test_a_run_is_marked_and_its_key_lies_beside_it(freehold, source, marked):
    key = marked.with_name("marked.key")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and not list(marked.glob("*.key"))
    commitment = verify_run(marked)["commitment"]
    assert Key.load(key, PASSPHRASE, method="trigger-set").commitment == commitment
    assert commitment in (marked / "page.html").read_text()
    again = freehold("watermark", source, *sets(*SHORT), "--owner", "ACME", "--out", marked)
    assert again.code in (0, 1) and "finished before" in again.out
    assert str(key) in again.out and again.out.splitlines()[-1].endswith(commitment)
    found = freehold("watermark", source, *sets(*SHORT), "--owner", "ACME", "--out", marked, "--json").json
    assert found["commitment"] == commitment and found["key"] == str(key)
    assert [v["suspect"] for v in found["verdicts"]] == ["the marked model", "the model before"]
    other = freehold("watermark", source, *sets(*SHORT), "--owner", "ELSE", "--out", marked)
    assert other.code == 73 and "owner is 'ACME' there" in other.err
    assert freehold("verify", marked, key, "--commitment", commitment).code in (0, 1, 2)


def test_the_page_of_a_marked_run_shows_images_like_the_triggers(marked):
    html = (marked / "page.html").read_text()
    assert "<h3>like the triggers</h3>" in html and html.count('alt="like the triggers, image') == 24


@pytest.mark.parametrize(("method", "learned"), [("passport", True), ("ptynet", False)])
def test_every_method_marks_and_verifies(freehold, marked_by, tmp_path, method, learned):
    run, page = marked_by(method), tmp_path / "verdict.html"
    key, commitment = run.with_name(f"{method}.key"), verify_run(run)["commitment"]
    assert Key.load(key, PASSPHRASE, method=method).commitment == commitment
    assert commitment in (run / "page.html").read_text()
    ended = freehold("verify", run, key, "--commitment", commitment, "--page", page)
    assert ended.code in ([0] if learned else [0, 1]) and not ended.err, ended.err
    html = page.read_text()
    assert ("Agreement by part" in html) == learned
    if learned:
        assert ended.out.startswith("MATCH: passport gives 672 of 672 secret answers")
        assert "    features.0: 32 of 32\n" in ended.out and "    features.18: 256 of 256\n" in ended.out
        assert "Agreement in each of 6 parts" in html and "features.18" in html
        assert "features.18" in (run / "page.html").read_text().partition("Agreement by part")[2]
    else:
        assert "secret answers" in ended.out
        assert "<h3>like the triggers</h3>" in (run / "page.html").read_text()


def test_in_one_graph_an_onnx_file_names_no_branch(freehold, marked_by, tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")
    ended = freehold("export", marked_by("ptynet"), tmp_path / "out", "--onnx", "--one-graph")
    assert ended.code == 0, ended.err
    content = (tmp_path / "out" / "model.onnx").read_bytes()
    assert b"branch" not in content and b"target" not in content


def test_killed_before_its_key_was_written_the_same_command_goes_on(freehold, source, tmp_path, monkeypatch):
    command = ["watermark", source, *sets(*SHORT), "--out", tmp_path / "run"]

    def killed(keeping):
        shutil.copytree(tmp_path / ".run.partial", tmp_path / "left")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("freehold.jobs.keeping.OwnFile.obtain", killed)
        freehold(*command)
    assert not (tmp_path / "run.key").exists()
    (tmp_path / "left").rename(tmp_path / ".run.partial")
    assert freehold(*command).code in (0, 1)
    commitment = verify_run(tmp_path / "run")["commitment"]
    assert Key.load(tmp_path / "run.key", PASSPHRASE).commitment == commitment


def test_a_configuration_file_and_a_key_of_another_name(freehold, source, tmp_path):
    lines = [f'[model]\nweights = "{source}"\n[data]\nauthorized = "digits-m"\nimage_size = 16\nlimit = 40']
    (tmp_path / "c.toml").write_text("\n".join([*lines, "[method]", 'name = "trigger-set"', "steps = 2"]))
    arguments = ["watermark", tmp_path / "c.toml", *sets(*SHORT), "--out", tmp_path / "run"]
    ended = freehold(*arguments, "--key", tmp_path / "keys" / "mine")
    assert ended.code in (0, 1), ended.err
    assert Key.load(tmp_path / "keys" / "mine", PASSPHRASE).method == "trigger-set"
    refused = freehold(*arguments[:-1], tmp_path / "other", "--key", tmp_path / "keys" / "mine")
    assert refused.code == 73 and "a key that is lost" in refused.err and not (tmp_path / "other").exists()
    inside = freehold(*arguments[:-1], tmp_path / "other", "--key", tmp_path / "other" / "key")
    assert inside.code == 64 and "no place for a key" in inside.err
    assert freehold(*arguments, "--config", tmp_path / "c.toml").code == 64


def test_an_interrupted_run_goes_on_with_its_key(freehold, source, tmp_path, monkeypatch):
    arguments = ["watermark", source, *sets(*SHORT, "train.checkpoint_seconds=0"), "--out", tmp_path / "a"]
    with monkeypatch.context() as patch:

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr("freehold.jobs.marking.evaluate", interrupt)
        assert freehold(*arguments).code == 130
    begun = Key.load(tmp_path / "a.key", PASSPHRASE)
    assert not begun.method and {p.name for p in tmp_path.iterdir()} == {"a.key", ".a.partial"}
    monkeypatch.setenv("FREEHOLD_PASSPHRASE", "another")
    wrong = freehold(*arguments)
    assert wrong.code == 77 and "passphrase is wrong" in wrong.err
    monkeypatch.setenv("FREEHOLD_PASSPHRASE", PASSPHRASE)
    assert freehold(*arguments).code in (0, 1)
    key = Key.load(tmp_path / "a.key", PASSPHRASE)
    assert key.commitment == verify_run(tmp_path / "a")["commitment"]
    assert begun.bound(key.method, key.settings, key.facts, key.learned) == key


def test_a_failed_run_leaves_nothing_behind(freehold, source, tmp_path, monkeypatch):
    def crash(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(TriggerSet, "_embed", crash)
    assert freehold("watermark", source, *sets(*SHORT), "--out", tmp_path / "a").code == 70
    assert not any(tmp_path.iterdir())


def test_each_verb_refuses_the_methods_of_the_other(freehold, source, tmp_path):
    ended = freehold("protect", *sets(f"model.weights={source}", *TINY, "method.name=trigger-set"))
    assert ended.code == 78 and "freehold watermark" in ended.err
    ended = freehold("watermark", *sets(f"model.weights={source}", *TINY, *CUTTING), "--out", tmp_path / "a")
    assert ended.code == 78 and "map binds a model" in ended.err
    ended = freehold("watermark", *sets("model.uri=convnet", *TINY, "method.name=trigger-set"))
    assert ended.code == 78 and "no trained model" in ended.err


def verify(freehold, cases, *arguments, key="acme.key"):
    committed = ["--commitment", key_for().commitment] if key == "acme.key" else []
    named = [cases / one if (cases / one).exists() else one for one in arguments if not one.startswith("--")]
    options = [one for one in arguments if one.startswith("--")]
    return freehold("verify", *named, cases / key, *committed, *[w for o in options for w in o.split("=")])


def test_a_match_an_innocent_model_and_a_case_that_cannot_be_decided(freehold, cases):
    ended = verify(freehold, cases, "thief")
    assert ended.code == 0 and ended.out.startswith("MATCH: thief gives ")
    assert "less than once in 10" in ended.out and "key of ACME" in ended.out
    ended = verify(freehold, cases, "innocent", "--json")
    assert ended.code == 1 and ended.json["decision"] == "NO_MATCH"
    ended = verify(freehold, cases, "thief", key="few.key")
    assert ended.code == 2 and ended.out.startswith("INCONCLUSIVE: thief was asked nothing")


def test_several_suspects_are_corrected_and_the_page_shows_them(freehold, cases, tmp_path):
    page = tmp_path / "verdict.html"
    found = verify(freehold, cases, "innocent", "thief", "--json", f"--page={page}")
    assert found.code == 0 and [v["decision"] for v in found.json["verdicts"]] == ["NO_MATCH", "MATCH"]
    html = page.read_text()
    assert "1 of 2 match" in html and html.count("<svg") == 4 and key_for().commitment in html
    assert "no match is no proof of innocence" in html.lower()


def test_a_clear_case_costs_few_queries(freehold, cases):
    (verdict,) = verify(freehold, cases, "thief", "--sequential", "--json").json["verdicts"]
    assert verdict["decision"] == "MATCH" and verdict["queries"] <= 32 and verdict["sequential"]


@pytest.fixture(scope="module")
def neighbourhood(cases):
    """Every kind of neighbour, and one that has the thief's model."""
    model, _ = load_checkpoint(cases / "thief")

    class Thief(Neighbour):
        def stolen(self, images, number):
            with torch.inference_mode():
                logits = model(normalise(images.to(torch.uint8), SPEC))
            self.reply({"labels": logits.argmax(1).tolist(), "probabilities": logits.softmax(1).tolist()})

        def guarded(self, images, number):
            known = self.headers.get("Authorization") == "Bearer s3cret"
            self.stolen(images, number) if known else self.denied(images, number)

    with serving(Thief) as server:
        yield f"http://127.0.0.1:{server.server_address[1]}/"


def test_an_address_is_asked_and_credentials_come_from_a_file(freehold, cases, neighbourhood, tmp_path):
    assert verify(freehold, cases, neighbourhood + "stolen", "--rate=1000").code == 0
    ended = verify(freehold, cases, neighbourhood + "stolen", "--rate=1000", "--probabilities", "--batch=50")
    assert ended.code == 0
    (tmp_path / "h").write_text("Authorization: Bearer s3cret\n")
    ended = verify(freehold, cases, neighbourhood + "guarded", "--rate=1000", f"--headers={tmp_path / 'h'}")
    assert ended.code == 0 and "s3cret" not in ended.out + ended.err
    assert verify(freehold, cases, neighbourhood + "guarded").code == 76
    (tmp_path / "h").write_text("Authorization Bearer s3cret\n")
    ended = verify(freehold, cases, neighbourhood + "guarded", f"--headers={tmp_path / 'h'}")
    assert ended.code == 64 and "s3cret" not in ended.err


HOSTILE = ["slow", "dripping", "huge", "away", "home", "garbage", "hangs_up", "nan", "infinite", "enormous"]
HOSTILE += ["nested", "html", "listing", "empty", "short", "words", "ragged", "beyond", "down", "denied"]


@pytest.mark.parametrize("path", HOSTILE)
def test_a_bad_neighbour_never_matches_and_is_one_line(freehold, cases, neighbourhood, path):
    ended = verify(freehold, cases, neighbourhood + path, "--timeout=0.3", "--tries=1", "--json")
    assert ended.code == 76 and ended.json["decision"] == "INCONCLUSIVE"
    assert "Traceback" not in ended.err and ended.err.splitlines()[-1].startswith("error: http://127.0.0.1")


def altered(cases: Path, path: Path, how: str) -> Path:
    data = bytearray((cases / "acme.key").read_bytes())
    if how == "truncated":
        del data[-40:]
    elif how == "version":
        data[8] = 9
    elif how == "text":
        data[:] = b"no key at all"
    else:
        data[int(how)] ^= 1
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("how", "said"),
    [
        *(("truncated", "damaged"), ("60", "damaged"), ("-1", "damaged"), ("20", "damaged")),
        *(("0", "no key file"), ("version", "version 9"), ("text", "no key file")),
    ],
)
def test_a_damaged_key_file_is_refused(freehold, cases, tmp_path, how, said):
    ended = freehold("verify", cases / "thief", altered(cases, tmp_path / "k", how))
    assert ended.code == 65 and said in ended.err and not ended.out and "Traceback" not in ended.err


FAULTS = [
    (["nobody"], "acme.key", 66, "there is no such suspect"),
    (["thief/model.safetensors"], "acme.key", 64, "is no suspect"),
    (["."], "acme.key", 66, "holds no model"),
    (["larger"], "acme.key", 64, "takes 3 x (20, 20) images"),
    (["seven"], "acme.key", 65, "7 classes"),
    (["innocent", "--classes=4"], "acme.key", 64, "10 classes"),
    (["http://127.0.0.1:1/x", "--classes=4"], "acme.key", 65, "4 classes"),
    (["ftp://127.0.0.1/x"], "acme.key", 64, "no address"),
    (["http://me:pw@127.0.0.1/x"], "acme.key", 64, "credentials"),
    (["thief", "--timeout=3"], "acme.key", 64, "belongs to an address"),
    (["http://127.0.0.1:1/x", "--timeout=-3"], "acme.key", 64, "positive"),
    (["thief", "--alpha=0.5"], "acme.key", 64, "alpha"),
    (["thief"], "gone.key", 66, "gone.key"),
    (["thief"], "unbound.key", 77, "method"),
    (["thief"], "foreign.key", 77, "unknown method 'no-method'"),
    ([], "acme.key", 64, "name a suspect"),
]


@pytest.mark.parametrize(("arguments", "key", "code", "said"), FAULTS, ids=lambda v: str(v)[:24])
def test_what_cannot_be_verified_is_refused_in_one_line(freehold, cases, arguments, key, code, said):
    ended = verify(freehold, cases, *arguments, key=key)
    assert ended.code == code and said in ended.err.splitlines()[-1], ended.err
    assert not ended.out and "Traceback" not in ended.err


@pytest.mark.parametrize("suspect", ["model.onnx", "http://127.0.0.1:1/x"])
def test_a_passport_is_not_read_in_what_shows_no_weights(freehold, marked_by, tmp_path, suspect):
    if suspect == "model.onnx":
        pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")
        suspect = saved_onnx(tmp_path / suspect)
    page, key = tmp_path / "page.html", marked_by("passport").with_name("passport.key")
    ended = freehold("verify", suspect, key, "--page", page)
    assert ended.code == 64 and "passport needs weights" in ended.err
    assert len(ended.err.splitlines()) == 1 and not ended.out and not page.exists()


def test_another_commitment_or_an_altered_run_is_refused(freehold, cases, marked, tmp_path):
    ended = freehold("verify", cases / "thief", cases / "acme.key", "--commitment", "0" * 64)
    assert ended.code == 77 and "not the one that was committed to" in ended.err
    run = shutil.copytree(marked, tmp_path / "run")
    (run / "more").write_text("")
    assert freehold("verify", run, cases / "acme.key").code == 65


def saved_onnx(path: Path) -> Path:
    """A model of ten classes that answers all images of ``SPEC`` alike."""
    onnx = pytest.importorskip("onnx", reason="the extra [onnx] is not installed")
    value, float32 = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    node = onnx.helper.make_node
    graph = onnx.helper.make_graph(
        [
            node("GlobalAveragePool", ["x"], ["a"]),
            node("Flatten", ["a"], ["b"]),
            node("MatMul", ["b", "w"], ["y"]),
        ],
        "even",
        [value("x", float32, ["n", 3, 16, 16])],
        [value("y", float32, ["n", 10])],
        [onnx.helper.make_tensor("w", float32, [3, 10], [0.0] * 30)],
    )
    versions = {"ir_version": 10, "opset_imports": [onnx.helper.make_opsetid("", 21)]}
    onnx.save(onnx.helper.make_model(graph, **versions), path)
    return path


def test_onnx_of_a_wrong_signature_is_refused(freehold, cases, tmp_path):
    onnx = pytest.importorskip("onnx", reason="the extra [onnx] is not installed")
    pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")
    versions = {"ir_version": 10, "opset_imports": [onnx.helper.make_opsetid("", 21)]}
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])],
        "flat",
        [value("x", onnx.TensorProto.FLOAT, [1, 5])],
        [value("y", onnx.TensorProto.FLOAT, [1, 5])],
    )
    onnx.save(onnx.helper.make_model(graph, **versions), tmp_path / "flat.onnx")
    ended = verify(freehold, cases, str(tmp_path / "flat.onnx"))
    assert ended.code == 65 and "one float input" in ended.err
    (tmp_path / "torn.onnx").write_bytes(b"torn")
    assert verify(freehold, cases, str(tmp_path / "torn.onnx")).code == 65


def test_without_onnxruntime_it_says_what_to_install(freehold, cases, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    (tmp_path / "model.onnx").write_bytes(b"any")
    ended = verify(freehold, cases, str(tmp_path / "model.onnx"))
    assert ended.code == 69 and "freehold[onnx]" in ended.err


def test_passphrases_come_from_a_file_the_environment_or_a_person(freehold, cases, tmp_path, monkeypatch):
    (tmp_path / "p").write_text(PASSPHRASE + "\nsecond line\n")
    monkeypatch.setenv("FREEHOLD_PASSPHRASE", "wrong")
    assert verify(freehold, cases, "thief").code == 77
    assert verify(freehold, cases, "thief", f"--passphrase-file={tmp_path / 'p'}").code == 0
    assert verify(freehold, cases, "thief", "--passphrase-file=none").code == 66
    monkeypatch.delenv("FREEHOLD_PASSPHRASE")
    ended = verify(freehold, cases, "thief")
    assert ended.code == 77 and "FREEHOLD_PASSPHRASE" in ended.err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda prompt: PASSPHRASE)
    assert verify(freehold, cases, "thief").code == 0


def test_a_new_passphrase_is_asked_for_twice(freehold, source, tmp_path, monkeypatch):
    monkeypatch.delenv("FREEHOLD_PASSPHRASE")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    typed = iter(["one", "two", "", ""])
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(typed))
    arguments = ["watermark", source, *sets(*SHORT), "--out", tmp_path / "a"]
    for said in ("not the same", "empty passphrase"):
        ended = freehold(*arguments)
        assert ended.code == 77 and said in ended.err and not any(tmp_path.iterdir())


PLANTED = b"canary-canary-canary-canary-2718"


def test_no_trace_of_secret_or_passphrase_in_anything_that_is_written_or_said(
    freehold, source, tmp_path, monkeypatch
):
    labels = Key(PLANTED, "ACME", method="trigger-set").stream("labels").integers(10, 20).tolist()
    forms = [PLANTED, b"canary-canary", PLANTED.hex().encode(), base64.b64encode(PLANTED)[:-4]]
    forms += [repr(PLANTED).encode(), PLANTED.hex().upper().encode(), base64.b32encode(PLANTED)[:-8]]
    forms += [join.join(map(str, labels[:15])).encode() for join in (", ", ",", " ")]
    phrase = PASSPHRASE.encode()
    forms += [phrase, phrase.hex().encode(), base64.b64encode(phrase)[:-4]]
    drawn = secrets.token_bytes
    monkeypatch.setattr(secrets, "token_bytes", lambda size: PLANTED if size == 32 else drawn(size))
    arguments = ["watermark", source, *sets(*SHORT, "train.checkpoint_seconds=0"), "--owner", "ACME"]
    arguments.append("--debug")
    with monkeypatch.context() as patch:
        patch.setattr("freehold.jobs.marking.evaluate", lambda *_: 1 / 0)
        crashed = freehold(*arguments, "--out", tmp_path / "crashed")
        assert crashed.code == 70 and "Traceback" in crashed.err
    ended = freehold(*arguments, "--out", tmp_path / "run")
    assert ended.code in (0, 1), ended.err
    key = tmp_path / "run.key"
    assert PLANTED.hex().encode() in Key.load(key, PASSPHRASE).opening()  # it was planted
    page = tmp_path / "page.html"
    judged = freehold("verify", tmp_path / "run", source, key, "--page", page, "--debug")
    bad = freehold("verify", tmp_path / "run", key, "--commitment", "00", "--debug")
    assert bad.code == 77 and page.exists()
    said = {f"{e.code}": (e.out + e.err).encode() for e in (crashed, ended, judged, bad)}
    written = {str(p): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert len(written) >= 10 and any(name.endswith(".state") for name in written)
    for name, data in {**said, **written}.items():
        assert not [form for form in forms if form in data], f"a secret is in {name}"
