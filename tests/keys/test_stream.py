from __future__ import annotations

import hashlib
import hmac
import pickle

import pytest
import torch
from scipy import stats

from freehold.errors import UsageError
from freehold.keys import Stream

SECRET = bytes(range(32))


def test_bytes_are_shake_over_the_derived_secret():
    message = (
        b"freehold/stream/1"
        + b"s"
        + (6).to_bytes(4, "big")
        + b"labels"
        + b"i"
        + (1).to_bytes(4, "big")
        + b"3"
    )
    child = hmac.new(SECRET, message, hashlib.sha256).digest()
    expected = hashlib.shake_256(child + (1).to_bytes(8, "big")).digest(20)
    assert Stream(SECRET, "labels", 3).draw(20) == expected


def test_paths_secrets_and_calls_are_independent_and_repeatable():
    def first(*path, secret=SECRET):
        return Stream(secret, *path).draw(16)

    drawn = [first("a", "b"), first("ab"), first("a", 1), first("a", "1"), first(), first(secret=bytes(32))]
    assert len(set(drawn)) == len(drawn)
    stream = Stream(SECRET, "x")
    assert stream.draw(16) == first("x") and stream.draw(16) != first("x")


@pytest.mark.parametrize("bound", [1, 2, 10, 1000, 3 << 30, 1 << 32])
def test_integers_are_uniform(bound):
    drawn = Stream(SECRET, "integers").integers(bound, 50, 400)
    assert drawn.shape == (50, 400) and drawn.dtype == torch.int64
    assert int(drawn.min()) >= 0 and int(drawn.max()) < bound
    counts = torch.bincount((drawn * min(bound, 10)).flatten() // bound)
    assert bound == 1 or stats.chisquare(counts.numpy()).pvalue > 1e-4


def test_uniform_and_normal_have_their_distribution():
    uniform, normal = Stream(SECRET, "u").uniform(20_000), Stream(SECRET, "n").normal(20_000)
    assert stats.kstest(uniform.numpy(), "uniform").pvalue > 1e-4
    assert stats.kstest(normal.numpy(), "norm").pvalue > 1e-4
    assert uniform.dtype == normal.dtype == torch.float32 and float(uniform.max()) < 1
    assert set(Stream(SECRET).bits(100).tolist()) == {0, 1}
    assert 0 <= Stream(SECRET).seed() < 2**63


@pytest.mark.parametrize("bound", [0, -1, (1 << 32) + 1])
def test_impossible_bounds_are_refused(bound):
    with pytest.raises(UsageError):
        Stream(SECRET).integers(bound, 3)


def test_it_is_neither_shown_nor_pickled():
    stream = Stream(SECRET, "x")
    assert "redacted" in repr(stream)
    with pytest.raises(TypeError):
        pickle.dumps(stream)
