"""Trusted time, from an authority that is run here, and what is said of one that lies."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from authority_kit import Authority
from evidence_kit import OWNER, signed, statement

from freehold.errors import ArtifactError, MissingInputError, UsageError
from freehold.evidence import timestamp
from freehold.evidence.check import Known, check_claim
from freehold.evidence.claim import read
from freehold.evidence.signature import public_bytes

SIGNATURE = bytes(range(64))


@pytest.fixture(scope="module")
def stamped(made, authority) -> bytes:
    signed = read(made[0])
    return signed.envelope.stamped(authority.about(signed.envelope.signature)).to_bytes()


def time(content: bytes, **known):
    (link,) = [link for link in check_claim(read(content), Known(**known)) if link.name == "time"]
    return link.state.value, link.says


def test_an_authority_is_asked_and_its_word_holds(authority, desk):
    before = datetime.now(UTC) - timedelta(seconds=2)
    reply = timestamp.ask(desk, SIGNATURE)
    shown = timestamp.shown_at(reply, SIGNATURE, authority.root.read_bytes(), where="x")
    assert before <= shown <= datetime.now(UTC) + timedelta(seconds=2)
    with pytest.raises(ArtifactError, match="something else"):
        timestamp.stamped_at(reply, SIGNATURE[::-1], where="x")


@pytest.mark.parametrize("path", ["garbage", "refuse"])
def test_an_authority_that_gives_no_stamp(desk, path):
    with pytest.raises((ArtifactError, MissingInputError)):
        timestamp.ask(desk + path, SIGNATURE)


def test_an_old_reply_to_another_question_is_refused(desk):
    timestamp.ask(desk + "stale", SIGNATURE)
    with pytest.raises(ArtifactError, match="another question"):
        timestamp.ask(desk + "stale", SIGNATURE)


def test_addresses(desk):
    with pytest.raises(UsageError):
        timestamp.ask("file:///etc/passwd", SIGNATURE)
    with pytest.raises(MissingInputError, match="no reply"):
        timestamp.ask("http://127.0.0.1:1/", SIGNATURE)


def test_a_stamp_holds_only_under_a_root_that_the_reader_knows(made, stamped, authority, tmp_path):
    root = authority.root.read_bytes()
    assert time(made[0], roots=root) == (
        "open",
        "no time stamp: whoever relies on the claim has to show otherwise when it was published",
    )
    assert time(stamped)[0] == "open"
    assert time(stamped, roots=root)[0] == "holds"
    assert time(stamped, roots=Authority(tmp_path / "other").root.read_bytes())[0] == "fails"


def test_back_dating_is_not_accepted(made, authority):
    """The maker's own date counts for nothing; a claim that must be older than its stamp fails."""
    root = authority.root.read_bytes()
    data = statement(made[0])
    data["predicate"]["made"] = "2001-01-01T00:00:00Z"
    old = read(signed(data))
    suspect_seen = datetime.now(UTC) - timedelta(days=1)
    assert time(old.envelope.to_bytes(), roots=root, before=suspect_seen)[0] == "open"
    today = old.envelope.stamped(authority.about(old.envelope.signature)).to_bytes()
    state, says = time(today, roots=root, before=suspect_seen)
    assert state == "fails" and "only from" in says
    assert time(today, roots=root, before=suspect_seen + timedelta(days=2))[0] == "holds"


def test_a_stamp_of_another_claim_fails(made, authority):
    found = read(made[0]).envelope
    assert (
        time(found.stamped(authority.about(b"\0" * 64)).to_bytes(), roots=authority.root.read_bytes())[0]
        == "fails"
    )


def test_every_flipped_byte_of_a_stamped_claim_is_noticed(stamped):
    draws = random.Random(1)
    start = stamped.index(b"timestamp")
    for place in range(start, len(stamped)):
        bad = bytearray(stamped)
        bad[place] ^= 1 << draws.randrange(8)
        with pytest.raises(ArtifactError):
            read(bytes(bad))


def test_the_signer_is_known_from_elsewhere_or_not_at_all(made):
    (link, *_) = check_claim(read(made[0]), Known())
    assert link.state.value == "open"
    (link, *_) = check_claim(read(made[0]), Known(signer=public_bytes(OWNER)))
    assert link.state.value == "holds"
    (link, *_) = check_claim(read(made[0]), Known(signer=bytes(32)))
    assert link.state.value == "fails"
