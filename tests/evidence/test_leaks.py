"""What counts as a part of a key, in which spellings it is found, and what is no alarm."""

from __future__ import annotations

import base64

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.errors import SecretError
from freehold.evidence.leaks import refuse_traces, traces
from freehold.keys import Key

SECRET = bytes(range(160, 192))
LEARNED = {
    "private.mean": torch.rand(64, generator=torch.Generator().manual_seed(0)),
    "private.zeros": torch.zeros(64),
    "reference.conv": torch.rand(64, generator=torch.Generator().manual_seed(1)),
}
ANSWERS = torch.randint(0, 10, (100,), generator=torch.Generator().manual_seed(2))
KEY = Key(SECRET, "ACME", method="any", learned=LEARNED)
KNOWN = traces(KEY, ANSWERS)


def refused(data: bytes, known=KNOWN) -> bool:
    try:
        refuse_traces([], {"model.bin": data}, known)
    except SecretError as error:
        assert "model.bin" in str(error) and SECRET.hex() not in str(error)
        return True
    return False


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=40), st.binary(max_size=40), st.data())
def test_the_secret_is_found_in_every_spelling_at_every_alignment(before, after, data):
    spell = data.draw(
        st.sampled_from(
            [bytes, lambda b: b.hex().encode(), lambda b: b.hex().upper().encode(), base64.b64encode,
             base64.urlsafe_b64encode, lambda b: repr(list(b)).encode(), lambda b: repr(b).encode()]
        )
    )  # fmt: skip
    assert refused(b"x" * 5 + spell(before + SECRET + after))


def test_half_of_the_secret_is_found_and_a_word_of_it_is_not():
    assert refused(b"ab" + SECRET[:16]) and refused(b"ab" + SECRET[16:].hex().encode())
    assert refused(base64.b64encode(b"abcd" + SECRET[:20]))
    assert not refused(SECRET[:8]) and not refused(bytes(100)) and not refused(b"")


def test_learned_tensors_and_secret_answers_are_found():
    assert refused(b"abc" + LEARNED["private.mean"].numpy().tobytes())
    for text in (str(ANSWERS.tolist()), " ".join(map(str, ANSWERS.tolist()))):
        assert refused(text.encode())
    assert refused(ANSWERS.numpy().tobytes()) and refused(ANSWERS.to(torch.uint8).numpy().tobytes())


def test_what_is_public_or_says_nothing_is_no_alarm():
    assert not refused(
        LEARNED["reference.conv"].numpy().tobytes() + LEARNED["private.zeros"].numpy().tobytes()
    )
    constant = traces(KEY, torch.zeros(100, dtype=torch.int64))
    assert not refused(bytes(10_000) + b"0, " * 1000, constant)
    assert not refused(ANSWERS[:20].numpy().tobytes())


def test_files_are_searched_to_their_last_byte(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"")
    refuse_traces([path], {}, KNOWN)
    path.write_bytes(bytes(3_000_001) + SECRET)
    with pytest.raises(SecretError, match="f: would hold the key's secret"):
        refuse_traces([path], {}, KNOWN)
