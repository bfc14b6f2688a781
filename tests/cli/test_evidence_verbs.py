"""keygen, claim, stamp, verify --bundle and check, as owners, examiners and opposing experts use them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch
from evidence_kit import release
from ownership_kit import SPEC
from torch.nn import functional as F

from freehold.data.batches import normalise
from freehold.keys import Key
from freehold.models.checkpoint import load_checkpoint, save_checkpoint, state_hash
from freehold.ownership.trigger_set import TriggerSet

PASSPHRASE, SIGNING = "open-sesame-2718", "sign-sesame-3141"
METHOD = TriggerSet(triggers=60)


@pytest.fixture(autouse=True)
def given_passphrases(monkeypatch):
    monkeypatch.setenv("FREEHOLD_PASSPHRASE", PASSPHRASE)
    monkeypatch.setenv("FREEHOLD_SIGNING_PASSPHRASE", SIGNING)


@pytest.fixture(scope="module")
def office(tmp_path_factory, quick_vaults) -> Path:
    """``model`` knows the answers of ``acme.key``, ``innocent`` does not."""
    folder = tmp_path_factory.mktemp("office")
    release(folder / "innocent", seed=2)
    facts = {"input": SPEC.model_dump(mode="json"), "num_classes": 10}
    key = Key(b"\5" * 32, "ACME").bound(METHOD.name, METHOD.model_dump(mode="json"), facts)
    model, recipe = load_checkpoint(folder / "innocent")
    images, labels = normalise(METHOD._images(key), SPEC), METHOD._trials(key).labels
    optimiser = torch.optim.Adam(model.train().parameters(), 5e-3)
    for _ in range(30):
        optimiser.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimiser.step()
    save_checkpoint(folder / "model", model.eval(), recipe)
    key.released(state_hash(model)).save(folder / "acme.key", PASSPHRASE)
    return folder


@pytest.fixture
def freehold_in(freehold, office, monkeypatch):
    monkeypatch.chdir(office)
    return freehold


@pytest.fixture
def claimed(freehold_in, office) -> Path:
    """A claim, made once."""
    if not (office / "claim.json").exists():
        for name in ("owner.pem", "examiner.pem"):
            assert freehold_in("keygen", name).code == 0
        ended = freehold_in("claim", "model", "acme.key", "--owner-key", "owner.pem")
        assert ended.code == 0, ended.err
    return office / "claim.json"


@pytest.fixture
def case(freehold_in, claimed, office) -> Path:
    """A bundle on the owner's model, made once."""
    if not (office / "case.zip").exists():
        ended = freehold_in("verify", "model", "acme.key", "--claim", "claim.json", "--bundle", "case.zip")
        assert ended.code == 0 and "the key in the open" in ended.out, ended.err
    return office / "case.zip"


def test_the_whole_way(freehold_in, claimed, case, tmp_path):
    alone = freehold_in("check", case)
    assert alone.code == 2 and "holds  commitment" in alone.out and "open   answers" in alone.out
    assert "evidence of derivation" in alone.out and "theft" not in alone.out
    page = tmp_path / "page.html"
    full = ["check", case, "--signer", "owner.pem.pub", "--release", "model", "--suspect", "model"]
    ended = freehold_in(*full, "--json", "--page", page)
    assert ended.code == 2
    states = {name: link["state"] for name, link in ended.json["links"].items()}
    assert states.pop("time") == "open" and set(states.values()) == {"holds"}
    assert "the recorded one" in ended.json["links"]["answers"]["says"]
    html = page.read_text()
    assert "What was checked" in html and "What this does not show" in html and "theft" not in html
    refuted = freehold_in(*full[:-1], "innocent", "--page", page)
    assert refuted.code == 1 and "\nMATCH" not in refuted.out and "FAILS  answers" in refuted.out
    assert "nothing is established" in page.read_text() and "chance alone" not in page.read_text()
    assert freehold_in("check", case, "--signer", "examiner.pem.pub").code == 1
    assert freehold_in("check", case, "--release", "innocent").code == 1


def test_a_claim_with_trusted_time(freehold_in, claimed, tmp_path):
    pytest.importorskip("rfc3161_client", reason="the extra [sign] is not installed")
    from authority_kit import Authority, serving

    authority = Authority(tmp_path / "authority")
    root = authority.root
    with serving(authority) as address:
        out = tmp_path / "stamped.json"
        made = freehold_in(
            *("claim", "model", "acme.key", "--owner-key", "owner.pem", "-o", out, "--timestamp", address)
        )
        assert made.code == 0 and "stamped 20" in made.out, made.err
        refused = tmp_path / "refused.json"
        ended = freehold_in(
            *("claim", "model", "acme.key", "--owner-key", "owner.pem", "-o", refused),
            *("--timestamp", address + "refuse"),
        )
        assert ended.code == 66 and not refused.exists()
    known = ("--signer", "owner.pem.pub", "--release", "model", "--tsa-root", root)
    assert freehold_in("check", out, *known).code == 0
    assert freehold_in("check", out, *known, "--before", "2020-01-01").code == 1
    assert freehold_in("check", out, *known, "--before", "2999-01-01").code == 0
    assert freehold_in("check", out, "--before", "2999-01-01").code == 64
    bundle = tmp_path / "case.zip"
    asked = (
        "verify",
        "model",
        "acme.key",
        "--claim",
        out,
        "--bundle",
        bundle,
        "--examiner-key",
        "examiner.pem",
    )
    assert freehold_in(*asked).code == 0
    ended = freehold_in("check", bundle, *known, "--examiner", "examiner.pem.pub")
    assert ended.code == 0 and "7 of 7 links hold" in ended.out


def test_a_stamp_by_hand_as_the_claim_says(freehold_in, claimed, tmp_path):
    pytest.importorskip("rfc3161_client", reason="the extra [sign] is not installed")
    from authority_kit import Authority

    out = tmp_path / "c.json"
    said = freehold_in("claim", "model", "acme.key", "--owner-key", "owner.pem", "--out", out).out
    (command,) = [line.split() for line in said.splitlines() if "openssl ts" in line]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    reply = tmp_path / "claim.tsr"
    reply.write_bytes(Authority(tmp_path / "authority").reply((tmp_path / "claim.tsq").read_bytes()))
    assert freehold_in("stamp", claimed, reply).code == 65  # of another claim
    assert freehold_in("stamp", out, reply).code == 0
    assert freehold_in("stamp", out, reply).code == 64
    assert freehold_in("check", out, "--tsa-root", tmp_path / "authority" / "root.pem").code == 2


def test_no_match_no_bundle_and_the_key_stays_secret(freehold_in, claimed, tmp_path):
    ended = freehold_in(
        "verify", "innocent", "acme.key", "--claim", "claim.json", "--bundle", tmp_path / "b.zip"
    )
    assert ended.code == 1 and not list(tmp_path.iterdir())


def test_a_folder_signed_for_model_signing(freehold_in, claimed, office, tmp_path):
    pytest.importorskip("model_signing", reason="the extra [sign] is not installed")
    from freehold.errors import ArtifactError
    from freehold.evidence.oms import verify_folder

    for make in ("ecparam -name prime256v1 -genkey -noout -out ec.pem", "ec -in ec.pem -pubout -out ec.pub"):
        subprocess.run(["openssl", *make.split()], cwd=tmp_path, check=True, capture_output=True)
    out = tmp_path / "c.json"
    key = ("--owner-key", "owner.pem")
    ended = freehold_in("claim", "model", "acme.key", *key, "-o", out, "--oms-key", tmp_path / "ec.pem")
    assert ended.code == 0, ended.err
    signature = tmp_path / "c.json.oms.sig"
    verify_folder(office / "model", signature, tmp_path / "ec.pub")
    with pytest.raises(ArtifactError, match="does not hold"):
        verify_folder(office / "innocent", signature, tmp_path / "ec.pub")
    wrong = freehold_in(
        "claim", "model", "acme.key", *key, "-o", tmp_path / "d.json", "--oms-key", "owner.pem.pub"
    )
    assert wrong.code in (65, 77) and not (tmp_path / "d.json").exists()


FAULTS = [
    (["claim", "nowhere", "acme.key", "--owner-key", "owner.pem", "-o", "new.json"], 66, "no such folder"),
    (["claim", "innocent", "acme.key", "--owner-key", "owner.pem", "-o", "new.json"], 77, "other weights"),
    (["claim", "model", "acme.key", "--owner-key", "owner.pem"], 73, "already"),
    (["claim", "model", "acme.key", "--owner-key", "owner.pem", "-o", "model/c.json"], 64, "beside"),
    (["claim", "model", "acme.key", "--owner-key", "gone.pem"], 66, "gone.pem"),
    (["claim", "model", "acme.key", "--owner-key", "acme.key", "-o", "new.json"], 65, "no private"),
    (
        ["claim", "model", "acme.key", "--owner-key", "owner.pem", "-o", "new.json", "--alpha", "0.3"],
        64,
        "alpha",
    ),
    (["keygen", "owner.pem"], 73, "already"),
    (["stamp", "claim.json", "gone.tsr"], 66, "gone.tsr"),
    (["stamp", "claim.json", "acme.key"], 65, "time-stamp reply"),
    (["check", "gone"], 66, "gone"),
    (["check", "acme.key"], 65, "JSON"),
    (["check", "model"], 66, "model"),
    (["check", "claim.json", "--suspect", "model"], 64, "claim alone"),
    (["check", "claim.json", "--signer", "acme.key"], 65, "no public"),
    (["check", "claim.json", "--tsa-root", "acme.key"], 65, "certificates"),
    (["verify", "model", "acme.key", "--bundle", "b.zip"], 64, "--claim"),
    (
        ["verify", "model", "innocent", "acme.key", "--claim", "claim.json", "--bundle", "b.zip"],
        64,
        "one suspect",
    ),
    (["verify", "model", "acme.key", "--claim", "claim.json", "--commitment", "0" * 64], 64, "in the claim"),
    (["verify", "model", "acme.key", "--claim", "claim.json", "--alpha", "0.01"], 64, "in the claim"),
    (["verify", "model", "acme.key", "--claim", "claim.json", "--bundle", "acme.key"], 73, "already"),
    (["verify", "model", "acme.key", "--claim", "acme.key"], 65, "JSON"),
    (["verify", "model", "acme.key", "--examiner-key", "owner.pem"], 64, "--bundle"),
]


@pytest.mark.parametrize(("arguments", "code", "said"), FAULTS, ids=lambda v: str(v)[:40])
def test_what_cannot_be_done_is_refused_in_one_line(freehold_in, claimed, arguments, code, said):
    pytest.importorskip("rfc3161_client", reason="the extra [sign] is not installed")
    ended = freehold_in(*arguments)
    assert ended.code == code and said in ended.err.splitlines()[-1], ended.err
    assert "Traceback" not in ended.err and not ended.out


def test_passphrases_are_not_mixed_up(freehold_in, claimed, monkeypatch, tmp_path):
    monkeypatch.setenv("FREEHOLD_SIGNING_PASSPHRASE", PASSPHRASE)
    ended = freehold_in("claim", "model", "acme.key", "--owner-key", "owner.pem", "-o", tmp_path / "c.json")
    assert ended.code == 77 and "passphrase is wrong" in ended.err
    (tmp_path / "p").write_text(SIGNING + "\n")
    given = ("--signing-passphrase-file", tmp_path / "p", "-o", tmp_path / "c.json")
    assert freehold_in("claim", "model", "acme.key", "--owner-key", "owner.pem", *given).code == 0
