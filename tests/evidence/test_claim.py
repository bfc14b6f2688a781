"""Claims: what they hold, who signed them, and that not one bit of them changes unnoticed."""

from __future__ import annotations

import base64
import random
from pathlib import Path

import pytest
from evidence_kit import OWNER, THIEF, claimed, release, signed, statement
from hypothesis import given
from hypothesis import strategies as st
from ownership_kit import trigger_key

from freehold.errors import ArtifactError, ConfigError, FreeholdError, SecretError, UsageError
from freehold.evidence import claim as claims
from freehold.evidence.signature import generate, key_id, load_private, load_public, public_bytes
from freehold.evidence.statement import read_envelope, root_of, subjects
from freehold.evidence.strict import DEEPEST, strict_json


@pytest.fixture(scope="module")
def content(made):
    return made[0]


def test_a_claim_says_who_what_how_and_tells_nothing_of_the_key(made, content):
    key = made[1]
    found = claims.read(content)
    terms = found.claim.predicate
    assert terms.owner == "ACME" and terms.method == "trigger-set" and terms.settings["triggers"] == 100
    assert terms.commitment == key.commitment and terms.state == key.facts["released"]
    assert (terms.test.alpha, terms.test.null, terms.test.rate, terms.test.trials) == (
        1e-6,
        "exact",
        0.1,
        100,
    )
    assert found.signer == public_bytes(OWNER) and set(found.claim.files) == {
        "model.safetensors",
        "recipe.json",
    }
    secret = (5).to_bytes(32, "big")
    for form in (secret.hex().encode(), base64.b64encode(secret)):
        assert form not in content and form not in found.envelope.statement


def test_the_root_is_what_sha256sum_gives(folder):
    import subprocess

    names = ["model.safetensors", "recipe.json"]
    lines = subprocess.run(["sha256sum", *names], cwd=folder, capture_output=True, check=True).stdout
    twice = subprocess.run(["sha256sum"], input=lines, capture_output=True, check=True).stdout
    assert claims.read(claimed(folder)[0]).claim.predicate.root == twice.decode()[:64]


def test_openssl_finds_the_signature_good(content, tmp_path):
    import subprocess

    found = read_envelope(content, where="claim")
    kind = b"application/vnd.in-toto+json"
    said = found.statement
    (tmp_path / "m").write_bytes(b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(said), said))
    (tmp_path / "s").write_bytes(found.signature)
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pem = OWNER.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "p").write_bytes(pem)
    verify = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "p", "-rawin", "-in", "m", "-sigfile", "s"]
    assert subprocess.run(verify, cwd=tmp_path, capture_output=True).returncode == 0


def test_every_flipped_byte_is_noticed(content):
    draws = random.Random(0)
    for place in range(len(content)):
        bad = bytearray(content)
        bad[place] ^= 1 << draws.randrange(8)
        with pytest.raises(FreeholdError):
            claims.read(bytes(bad))


@pytest.mark.parametrize("cut", [0, 1, 100, -1, -2])
def test_a_claim_cut_short_or_drawn_out_is_refused(content, cut):
    with pytest.raises(ArtifactError):
        claims.read(content[:cut])
    with pytest.raises(ArtifactError):
        claims.read(content + b"\n")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["predicate"].update(more=1), "unknown key"),
        (lambda d: d.update(more=1), "unknown key"),
        (lambda d: d["predicate"].update(root="0" * 64), "root does not follow"),
        (lambda d: d["predicate"].update(weights="other"), "none of the files"),
        (lambda d: d["predicate"].update(made="2026-13-01T00:00:00Z"), "made"),
        (lambda d: d["predicate"].update(made=20260101), "made"),
        (lambda d: d["predicate"]["test"].update(alpha="1e-6"), "alpha"),
        (lambda d: d["predicate"]["test"].update(alpha=0.5), "alpha"),
        (lambda d: d["predicate"]["test"].update(trials=10**30), "trials"),
        (lambda d: d["predicate"].update(owner="A\nB"), "owner"),
        (lambda d: d["subject"].reverse(), "order"),
        (lambda d: d["subject"].append(d["subject"][0]), "order"),
        (lambda d: d.update(subject=[]), "subject"),
        (lambda d: d["subject"][0].update(name="../x"), "inside a folder"),
        (lambda d: d["subject"][0].update(name="/x"), "inside a folder"),
        (lambda d: d["subject"][0].update(name="a\\b"), "inside a folder"),
        (lambda d: d["subject"][0]["digest"].update(sha1="0"), "unknown key"),
        (lambda d: d.update(_type="https://in-toto.io/Statement/v0.1"), "_type"),
        (lambda d: d.update(predicateType="urn:freehold:case:1"), "predicateType"),
        (lambda d: d["predicate"].update(signer=public_bytes(THIEF).hex()), "signature does not hold"),
        (lambda d: d["predicate"].update(signer="00" * 32), "signature does not hold"),
    ],
)
def test_what_is_signed_must_be_a_claim_as_well(content, change, said):
    data = statement(content)
    change(data)
    with pytest.raises(ArtifactError, match=said):
        claims.read(signed(data))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"\xff\xfe{}", "JSON"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "too many digits"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b"[" * 100_000, "levels deep"),
        (b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1), "levels deep"),
        (b" " * (1 << 20) + b"{}", "more than"),
        (b"", "JSON"),
        (b"\xef\xbb\xbf{}", "JSON"),
    ],
)
def test_json_of_strangers_is_bounded(text, said):
    with pytest.raises(ArtifactError, match=said):
        strict_json(text, where="x")


@given(st.binary(max_size=300))
def test_noise_is_refused_in_our_own_words(noise):
    with pytest.raises(ArtifactError):
        claims.read(noise)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.data())
def test_a_signed_statement_with_any_field_of_another_kind_is_read_or_refused(content, data):
    found = statement(content)
    holder = data.draw(
        st.sampled_from([found, found["predicate"], found["subject"][0], found["predicate"]["test"]])
    )
    holder[data.draw(st.sampled_from(sorted(holder)))] = data.draw(JSON)
    try:
        read = claims.read(signed(found))
    except ArtifactError:
        return
    assert claims.as_data(read.claim) == found


def test_no_claim_on_other_weights_or_at_a_level_that_cannot_be_reached(folder, tmp_path):
    key = claimed(folder)[1]
    release(tmp_path / "other", seed=2)
    with pytest.raises(SecretError, match="other weights"):
        claims.make(tmp_path / "other", key, public_bytes(OWNER))
    with pytest.raises(SecretError, match="other weights"):
        claims.make(folder, trigger_key(5), public_bytes(OWNER))
    with pytest.raises(UsageError, match="alpha"):
        claims.make(folder, key, public_bytes(OWNER), alpha=0.1)
    with pytest.raises(UsageError, match="trials reach"):
        claims.make(folder, key, public_bytes(OWNER), alpha=1e-95)
    with pytest.raises(SecretError, match="another signer"):
        claims.sign(claims.make(folder, key, public_bytes(OWNER)), THIEF)


def test_a_link_or_a_strange_name_is_not_claimed(folder, tmp_path):
    key = claimed(folder)[1]
    release(tmp_path / "a")
    (tmp_path / "a" / "more").symlink_to(folder)
    with pytest.raises(UsageError, match="link"):
        claims.make(tmp_path / "a", key, public_bytes(OWNER))
    (tmp_path / "a" / "more").unlink()
    (tmp_path / "a" / "möre").write_text("")
    with pytest.raises(ConfigError, match="name"):
        claims.make(tmp_path / "a", key, public_bytes(OWNER))


def test_files_are_in_order_whatever_the_order_given():
    hashes = {"b": "1" * 64, "a": "2" * 64}
    assert [file.name for file in subjects(hashes)] == ["a", "b"]
    assert root_of(subjects(hashes)) == root_of(subjects(dict(reversed(hashes.items()))))


def test_a_signing_key_is_made_kept_and_read(tmp_path):
    name = generate(tmp_path / "s.pem", "pass")
    assert (tmp_path / "s.pem").stat().st_mode & 0o777 == 0o600
    key = load_private(tmp_path / "s.pem", lambda: "pass")
    assert load_public(tmp_path / "s.pem.pub") == public_bytes(key) and key_id(public_bytes(key)) == name
    with pytest.raises(SecretError, match="wrong"):
        load_private(tmp_path / "s.pem", lambda: "other")
    with pytest.raises(FreeholdError, match="already"):
        generate(tmp_path / "s.pem", "pass")
    with pytest.raises(SecretError, match="empty"):
        generate(tmp_path / "t.pem", "")
    with pytest.raises(ArtifactError, match="public"):
        load_public(tmp_path / "s.pem")
    (tmp_path / "n.pem").write_text("nothing")
    with pytest.raises(ArtifactError, match="private"):
        load_private(tmp_path / "n.pem", lambda: "")


def test_a_time_stamp_of_another_file_is_no_part_of_a_claim(content):
    found = read_envelope(content, where="claim")
    stamped = found.stamped(b"reply")
    assert read_envelope(stamped.to_bytes(), where="claim") == stamped and stamped.reply == b"reply"
    other = stamped.timestamp.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(ArtifactError, match="one form"):
        read_envelope(stamped.model_copy(update={"timestamp": other}).to_bytes(), where="claim")


def test_hostile_files_are_read_without_torch():
    """So that little memory is at stake."""
    import subprocess
    import sys

    claim = Path(__file__).parents[1] / "vectors" / "valid" / "claim.json"
    code = f"import sys; from freehold.cli.app import main; print(main(['check', {str(claim)!r}]))"
    code += "; print('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-2:] == ["2", "False"]
