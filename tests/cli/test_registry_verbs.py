"""Vaults, traces and the registry on the command line: what is printed, kept and refused."""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
from pathlib import Path

import pytest
from cli_kit import sets
from evidence_kit import bundle, claimed, release

from freehold.artifacts import verify_run
from freehold.cli.app import main
from freehold.keys import Key, Vault
from freehold.models.checkpoint import load_checkpoint, save_checkpoint

PASSPHRASE = "open-sesame-3141"
SHORT = ("method.steps=2", "method.triggers=60", "method.batch_size=8", "method.trigger_batch=8")
PLANTED = b"canary-canary-canary-canary-5926"


@pytest.fixture(autouse=True)
def given_passphrase(monkeypatch):
    monkeypatch.setenv("FREEHOLD_PASSPHRASE", PASSPHRASE)


@pytest.fixture(scope="module")
def marked(source, quick_vaults) -> Path:
    """A vault with two copies, from a master key that is known to the tests, and the runs beside it."""
    folder = source.with_name("copies")
    drawn = secrets.token_bytes
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FREEHOLD_PASSPHRASE", PASSPHRASE)
        patch.setattr(secrets, "token_bytes", lambda size: PLANTED if size == 32 else drawn(size))
        assert main(["key", "new", str(folder / "vault"), "--owner", "ACME"]) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FREEHOLD_PASSPHRASE", PASSPHRASE)
        for name in ("Orchid AG", "Söhne"):
            words = ["watermark", str(source), *sets(*SHORT), "--customer", name, "--debug"]
            words += ["--key", str(folder / "vault"), "--out", str(folder / name)]
            assert main(words) in (0, 1)
    return folder


def test_copies_are_marked_and_listed(freehold, marked):
    listed = freehold("key", "list", marked / "vault", "--json").json
    assert listed["owner"] == "ACME" and [c["customer"] for c in listed["copies"]] == ["Orchid AG", "Söhne"]
    for copy in listed["copies"]:
        assert verify_run(marked / copy["customer"])["commitment"] == copy["commitment"]
    ended = freehold("key", "list", marked / "vault")
    assert ended.out.splitlines()[0] == f"{listed['copies'][0]['commitment']}  trigger-set  Orchid AG"


def test_the_same_command_again_computes_nothing_and_a_second_copy_is_refused(
    freehold, source, marked, tmp_path
):
    words = ["watermark", source, *sets(*SHORT), "--customer", "Orchid AG", "--key", marked / "vault"]
    assert "finished before" in freehold(*words, "--out", marked / "Orchid AG").out
    ended = freehold(*words, "--out", tmp_path / "again")
    assert ended.code == 73 and "has a copy already" in ended.err and not any(tmp_path.iterdir())
    ended = freehold(*words[:-2], "--out", tmp_path / "again")
    assert ended.code == 64 and "comes from a vault" in ended.err
    ended = freehold(*words, "--owner", "Other", "--out", tmp_path / "again")
    assert ended.code == 77 and "of 'ACME', not of 'Other'" in ended.err
    words[words.index("Orchid AG")] = "bad "
    assert freehold(*words, "--out", tmp_path / "again").code == 64 and not any(tmp_path.iterdir())


def test_an_interrupted_copy_goes_on(freehold, source, marked, tmp_path, monkeypatch):
    assert freehold("key", "new", tmp_path / "v").code == 0
    words = [
        "watermark",
        source,
        *sets(*SHORT),
        "--customer",
        "x",
        "--key",
        tmp_path / "v",
        "--out",
        tmp_path / "a",
    ]
    with monkeypatch.context() as patch:
        patch.setattr("freehold.jobs.marking.write_page", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert freehold(*words).code == 130
    assert freehold("key", "list", tmp_path / "v").out.startswith("0 copies")
    assert freehold(*words).code in (0, 1)
    assert Vault(tmp_path / "v", PASSPHRASE).key("x").commitment == verify_run(tmp_path / "a")["commitment"]


@pytest.fixture(scope="module")
def thief(marked) -> Path:
    """A model that was taught the answers of the first copy."""
    import torch
    from torch.nn import functional as F

    from freehold.data.batches import normalise
    from freehold.ownership.base import method_of

    key = Vault(marked / "vault", PASSPHRASE).key("Orchid AG")
    model, recipe = load_checkpoint(marked / "Orchid AG")
    method = method_of(key)
    images, labels = normalise(method._images(key), recipe.input), method._trials(key).labels
    model.train()
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(20):
        optimiser.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimiser.step()
    save_checkpoint(marked / "thief", model.eval(), recipe)
    return marked / "thief"


def test_the_customer_is_named_and_nobody_for_the_source(freehold, marked, thief, source, tmp_path):
    (tmp_path / "published").write_text(
        freehold("key", "list", marked / "vault").out.rpartition("2 copies")[0]
    )
    ended = freehold("trace", thief, marked / "vault", "--commitments", tmp_path / "published")
    assert ended.code == 0 and ended.out.startswith("MATCH: thief: ") and "'Orchid AG' alone" in ended.out
    assert "120 images asked about" in ended.out and "for others to judge" in ended.out
    words = ["trace", thief, marked / "vault", "--commitments", tmp_path / "published"]
    ended = freehold(*words, "--page", tmp_path / "page.html")
    assert ended.code == 0 and ended.out.splitlines()[-1] == f"page: {tmp_path / 'page.html'}"
    page = (tmp_path / "page.html").read_text()
    assert "from the copy of Orchid AG" in page and "Söhne" in page and PLANTED.hex() not in page
    found = freehold("trace", thief, marked / "vault", "--json")
    assert found.json["customer"] in ("", "Orchid AG") and found.json["queries"] == 120
    ended = freehold("trace", source, marked / "vault", "--json")
    assert ended.code in (1, 2) and ended.json["customer"] == ""


FAULTS = [
    (["nobody", "vault"], 66, "no such suspect"),
    (["thief", "none"], 66, "there is no vault"),
    (["thief", "thief"], 66, "there is no vault"),
    (["thief", "vault", "--commitments", "none"], 66, "cannot be read"),
    (["thief", "vault", "--commitments", "thief/recipe.json"], 64, "is no commitment"),
    (["thief", "vault", "--rate", "3"], 64, "belongs to an address"),
    (["thief", "vault", "--alpha", "2"], 64, "alpha"),
    (["http://127.0.0.1:1/x", "vault"], 76, "127.0.0.1"),
]


@pytest.mark.parametrize(("words", "code", "said"), FAULTS, ids=lambda v: str(v)[:30])
def test_what_cannot_be_traced_is_one_line(freehold, marked, thief, words, code, said):
    ended = freehold("trace", *[marked / w if (marked / w).exists() or w == "nobody" else w for w in words])
    assert ended.code == code and said in ended.err and not ended.out and "Traceback" not in ended.err


def test_a_vault_gets_a_new_passphrase_and_a_key_leaves_it(freehold, marked, tmp_path, monkeypatch):
    vault = tmp_path / "vault"
    Vault.create(vault, PASSPHRASE, "ACME")
    ended = freehold("key", "rotate", vault)
    assert ended.code == 77 and "FREEHOLD_NEW_PASSPHRASE" in ended.err
    (tmp_path / "new").write_text("another\n")
    assert freehold("key", "rotate", vault, "--new-passphrase-file", tmp_path / "new").code == 0
    assert freehold("key", "list", vault).code == 77
    monkeypatch.setenv("FREEHOLD_NEW_PASSPHRASE", PASSPHRASE)
    assert freehold("key", "rotate", vault, "--passphrase-file", tmp_path / "new").code == 0
    assert freehold("key", "list", vault).code == 0
    ended = freehold("key", "export", vault, "Nobody", tmp_path / "k")
    assert ended.code == 64 and "no customer" in ended.err
    assert freehold("key", "export", marked / "vault", "Söhne", tmp_path / "k").code == 0
    assert Key.load(tmp_path / "k", PASSPHRASE) == Vault(marked / "vault", PASSPHRASE).key("Söhne")
    assert freehold("key", "export", marked / "vault", "Söhne", tmp_path / "k").code == 73
    assert freehold("key", "new", vault).code == 73


@pytest.fixture(scope="module")
def papers(tmp_path_factory) -> Path:
    """A claim and a bundle of evidence."""
    folder = tmp_path_factory.mktemp("papers")
    release(folder / "released")
    claim, key = claimed(folder / "released")
    (folder / "claim.json").write_bytes(claim)
    bundle(folder / "case.zip", claim, key)
    return folder


@pytest.fixture
def registry(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FREEHOLD_REGISTRY", str(tmp_path / "team.db"))
    return tmp_path / "team.db"


def test_claims_and_cases_are_entered_and_found(freehold, papers, registry, tmp_path):
    ended = freehold("claims", "add", papers / "claim.json", papers / "case.zip")
    assert ended.code == 0 and len(ended.out.splitlines()) == 2, ended.err
    assert "was entered before" in freehold("claims", "add", papers / "claim.json").out
    claim, case = freehold("claims", "list", "--json").json["entries"]
    assert (
        claim["record"]["kind"] == "claim" and case["record"]["about"]["claim"] == claim["record"]["digest"]
    )
    assert case["record"]["about"]["decision"] == "MATCH" and not case["record"]["body"]
    assert freehold("claims", "list").out.count("\n") == 2
    assert freehold("claims", "search", "acme", "--json").json["entries"] == [claim, case]
    assert freehold("claims", "search", "match").out.startswith("   2 ")
    assert freehold("claims", "search", "nobody").code == 1
    shown = freehold("claims", "show", claim["record"]["digest"][:10])
    assert shown.out.startswith("claim 1, entered") and claim["record"]["about"]["commitment"] in shown.out
    assert freehold("claims", "show", "1", "--out", tmp_path / "c.json").code == 0
    assert (tmp_path / "c.json").read_bytes() == (papers / "claim.json").read_bytes()
    assert freehold("claims", "show", "1", "--out", tmp_path / "c.json").code == 73
    assert freehold("claims", "show", "2", "--out", tmp_path / "d.json").code == 64
    assert freehold("claims", "show", "9").code == 64


def test_an_edit_and_a_lost_end_show(freehold, papers, registry):
    freehold("claims", "add", papers / "claim.json", papers / "case.zip")
    ended = freehold("claims", "verify")
    assert ended.code == 0 and ended.out.startswith("whole: 2 entries")
    (head,) = re.findall(r"head: (.+)", ended.out)
    assert freehold("claims", "verify", "--head", head, "--json").json["head"] == head
    assert freehold("claims", "verify", "--head", "2:x").code == 64
    connection = sqlite3.connect(registry)
    connection.execute("UPDATE freehold_entries SET about = replace(about, 'NO_MATCH', 'MATCH')")
    connection.execute("DELETE FROM freehold_entries WHERE number = 2")
    connection.commit()
    connection.close()
    ended = freehold("claims", "verify")
    assert ended.code == 65 and "it was sealed at 2" in ended.err
    ended = freehold("claims", "verify", "--head", head)
    assert ended.code == 65 and "Traceback" not in ended.err


def test_what_is_no_evidence_is_refused(freehold, papers, registry, tmp_path):
    Key.born("ACME").save(tmp_path / "k.key", PASSPHRASE)
    data = bytearray((papers / "claim.json").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "bad.json").write_bytes(data)
    zipped = bytearray((papers / "case.zip").read_bytes())
    zipped[len(zipped) // 2] ^= 1
    (tmp_path / "bad.zip").write_bytes(zipped)
    for name, code in (("k.key", 77), ("bad.json", 65), ("bad.zip", 65), ("none", 66)):
        ended = freehold("claims", "add", papers / "claim.json", tmp_path / name)
        assert ended.code == code and "Traceback" not in ended.err, ended.err
    assert not registry.exists()  # all are sound before the first is entered
    assert freehold("claims", "list").code == 66


def test_a_password_is_no_argument_and_is_never_printed(freehold, monkeypatch):
    place = "postgresql://team:s3cret-canary@127.0.0.1:1/x"
    ended = freehold("claims", "list", "--registry", place)
    assert ended.code == 77 and "command line" in ended.err and "canary" not in ended.err
    monkeypatch.setenv("FREEHOLD_REGISTRY", place)
    for words in (["list"], ["verify", "--debug"], ["list", "--json", "--debug"]):
        ended = freehold("claims", *words)
        assert ended.code == 66 and "canary" not in ended.out + ended.err
    assert freehold("claims", "list", "--registry", "x://y").code == 64


def test_no_trace_of_the_master_key_in_anything_that_was_written(freehold, marked, thief, papers, registry):
    master = Vault(marked / "vault", PASSPHRASE)
    assert PLANTED in master._master.packed().replace(PLANTED.hex().encode(), PLANTED)  # it was planted
    forms = [PLANTED, PLANTED[:16], PLANTED.hex().encode(), repr(PLANTED).encode(), PASSPHRASE.encode()]
    for name in ("Orchid AG", "Söhne"):
        secret = master.key(name)._secret
        forms += [secret, secret.hex().encode(), repr(secret).encode()]
    freehold("claims", "add", papers / "claim.json", papers / "case.zip")
    said = [
        freehold("trace", thief, marked / "vault", "--debug"),
        freehold("key", "list", marked / "vault", "--json"),
    ]
    said += [freehold("trace", thief, marked / "vault", "--commitments", "none", "--debug")]
    said += [freehold("claims", "list", "--json", "--debug")]
    written = {
        str(p): p.read_bytes() for p in [*marked.rglob("*"), *registry.parent.iterdir()] if p.is_file()
    }
    assert len(written) > 15
    for name, data in {**written, **{str(n): (e.out + e.err).encode() for n, e in enumerate(said)}}.items():
        assert not [form for form in forms if form in data], f"a secret is in {name}"
    entries = json.dumps(freehold("claims", "list", "--json").json)
    key = claimed(papers / "released")[1]
    assert key._secret.hex() not in entries
