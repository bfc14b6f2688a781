"""False positives first: what never may be a MATCH, how often chance looks like one, and what power means."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ownership_kit import trigger_key
from scipy import stats

from freehold.errors import UsageError
from freehold.keys import Key
from freehold.ownership.observation import Decision, Observation, Trials

KEYS, SHOWN = 20_000, 100


def trials(labels: torch.Tensor, classes: int = 10) -> Trials:
    return Trials(labels, 1 / classes, "exact", "drawn")


def observed(labels, answers, *, classes=10, alpha=1e-6, survives=0.5, committed=True, p_value=None):
    return Observation(trials(labels, classes), answers, alpha, survives, committed, p_value)


@pytest.fixture(scope="module")
def labels() -> torch.Tensor:
    """Labels of 20,000 random keys, ``(KEYS, SHOWN)``, as the trigger set draws them."""
    keys = (Key(i.to_bytes(32, "little"), "X", method="trigger-set") for i in range(KEYS))
    return torch.stack([key.stream("labels").integers(10, SHOWN) for key in keys])


def fixed(name: str) -> torch.Tensor:
    """The answers of a suspect that knows no key; shuffled stands for any that depend on the input."""
    rng = torch.Generator().manual_seed(3)
    if name == "constant":
        return torch.zeros(SHOWN, dtype=torch.int64)
    if name == "skewed":
        return torch.multinomial(torch.tensor([0.8, 0.1, *[0.1 / 8] * 8]), SHOWN, True, generator=rng)
    if name == "two answers":
        return torch.arange(SHOWN) % 2
    if name == "balanced":
        return torch.arange(SHOWN) % 10
    return torch.randint(10, (SHOWN,), generator=rng)


@pytest.mark.parametrize("name", ["constant", "skewed", "two answers", "balanced", "random"])
def test_false_positives_are_as_rare_as_stated(labels, name):
    answers = fixed(name)
    matches = (labels == answers).sum(1)
    p_values = stats.binom.sf(matches.numpy() - 1, SHOWN, 0.1)
    for level in (1e-2, 1e-3):
        reached = stats.binom.sf(stats.binom.isf(level, SHOWN, 0.1), SHOWN, 0.1)  # of a discrete test
        low, high = stats.binom.ppf([0.0005, 0.9995], KEYS, reached)
        assert low <= (p_values <= level).sum() <= high
    best = labels[int(matches.argmax())]
    assert observed(best, answers).decide()[0] != Decision.MATCH
    if name in ("constant", "two answers"):  # and chance is not even needed: these prove nothing
        assert observed(best, answers, alpha=0.01).decide()[0] != Decision.MATCH


@given(st.lists(st.integers(0, 9), min_size=1, max_size=300), st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_a_constant_answer_never_matches_whatever_the_key(given_labels, answer):
    key_labels = torch.tensor(given_labels)
    for committed in (True, False):
        found = observed(key_labels, torch.full_like(key_labels, answer), alpha=0.05, committed=committed)
        assert found.decide()[0] != Decision.MATCH


@given(st.integers(0, 2**32 - 1), st.integers(2, 20), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_shuffled_answers_of_a_guilty_model_are_innocent(seed, classes, skew):
    rng = torch.Generator().manual_seed(seed)
    weights = torch.full((classes,), 1 - skew) + torch.eye(classes)[0]
    key_labels = torch.multinomial(weights, 100, True, generator=rng)
    shuffled = key_labels[torch.randperm(100, generator=rng)]
    assert observed(key_labels, shuffled, classes=classes).decide()[0] != Decision.MATCH


def test_a_guilty_model_matches_from_the_exact_threshold_on():
    key_labels = trigger_key().stream("labels").integers(10, 100)
    wrong = (key_labels + 1) % 10
    for matches, expected in ((28, Decision.MATCH), (27, Decision.INCONCLUSIVE), (12, Decision.NO_MATCH)):
        answers = torch.cat([key_labels[:matches], wrong[matches:]])
        decision, reason, adjusted, _ = observed(key_labels, answers).decide()
        assert decision == expected and reason
        assert (adjusted <= 1e-6) == (expected == Decision.MATCH)


def test_without_a_commitment_all_secrets_that_can_be_tried_count():
    key_labels = trigger_key().stream("labels").integers(10, 100)
    answers = torch.cat([key_labels[:40], (key_labels[40:] + 1) % 10])
    assert observed(key_labels, answers).decide()[0] == Decision.MATCH
    decision, reason, adjusted, _ = observed(key_labels, answers, committed=False).decide()
    assert decision == Decision.INCONCLUSIVE and "commitment" in reason and adjusted > 1e-6
    assert observed(key_labels, key_labels, committed=False).decide()[0] == Decision.MATCH


def test_grinding_a_million_secrets_is_of_no_use():
    """The best of 2**20 secrets against one set of answers, by what order statistics promise at most."""
    best = int(stats.binom.isf(2**-26, 100, 0.1))  # even the best of 2**26 has hardly more
    key_labels = torch.arange(100) % 10
    answers = torch.cat([key_labels[:best], (key_labels[best:] + 1) % 10])
    assert observed(key_labels, answers).decide()[0] == Decision.MATCH  # had it been committed in time
    assert observed(key_labels, answers, committed=False).decide()[0] == Decision.INCONCLUSIVE


def test_too_few_trials_never_acquit_and_say_what_is_missing():
    for count in (3, 8, 20):
        key_labels = torch.arange(count) % 10
        decision, reason, *_ = observed(key_labels, (key_labels + 1) % 10).decide()
        assert decision == Decision.INCONCLUSIVE
        assert "too few" in reason and "missing" in reason
    assert "trials are needed" not in observed(torch.arange(100) % 10, torch.zeros(100).long()).decide()[1]


@given(st.integers(5, 400), st.floats(0.15, 1), st.sampled_from([2, 10, 100]))
@settings(max_examples=30, deadline=None)
def test_no_match_is_said_only_of_what_a_derived_model_would_hardly_ever_show(count, survives, classes):
    key_labels = torch.arange(count) % classes
    for matches in {0, count // classes, count // 4}:
        answers = torch.cat([key_labels[:matches], (key_labels[matches:] + 1) % classes])
        found = observed(key_labels, answers, classes=classes, survives=survives)
        if found.decide()[0] == Decision.NO_MATCH:
            assert stats.binom.cdf(matches, count, survives) <= 0.0101
            assert found.reachable() <= found.alpha


def test_a_key_whose_labels_do_not_vary_decides_nothing():
    same = torch.full((200,), 4)
    decision, reason, *_ = observed(same, same).decide()
    assert decision == Decision.INCONCLUSIVE and "vary" in reason


def test_a_mark_that_does_not_survive_decides_nothing():
    labels = torch.arange(50) % 10
    assert observed(labels, (labels + 1) % 10, survives=0.1).decide()[0] == Decision.INCONCLUSIVE


def test_what_could_not_be_read_is_no_trial_and_its_part_is_smaller():
    whole = Trials(torch.tensor([0, 1, 1, 0, 1, 0]), 0.5, "exact", "drawn", parts=(("a", 2), ("b", 4)))
    left, answers = whole.readable(torch.tensor([-1, 1, -1, 0]))
    assert left.labels.tolist() == [1, 0, 1, 0] and answers.tolist() == [1, 0]
    assert left.parts == (("a", 1), ("b", 3)) and left.caveats[-1].startswith("2 of 6 could not be read")
    assert whole.readable(torch.tensor([1, 0]))[0] is whole


@pytest.mark.parametrize("level", [0.01, 0.001])
def test_the_null_stays_exact_whatever_cannot_be_read(level):
    rng = torch.Generator().manual_seed(5)
    answers = torch.randint(2, (200,), generator=rng).where(torch.arange(200) % 3 > 0, -1)
    reached, attained = 0, stats.binom.sf(stats.binom.isf(level, 133, 0.5), 133, 0.5)
    for _ in range(4000):
        drawn = Trials(torch.randint(2, (200,), generator=rng), 0.5, "exact", "drawn")
        reached += Observation(*drawn.readable(answers), 1e-6, 0.9, True).chance() <= level
    assert stats.binom.ppf(0.0005, 4000, attained) <= reached <= stats.binom.ppf(0.9995, 4000, attained)


def test_no_answer_matches_nothing():
    labels = torch.arange(100) % 10
    found = observed(labels, torch.full((100,), -1))
    assert found.matches == 0 and found.decide()[0] == Decision.NO_MATCH


def test_nothing_secret_is_in_the_repr():
    labels = torch.arange(100) % 10
    assert "tensor" not in repr(trials(labels)) + repr(observed(labels, labels))


@pytest.mark.parametrize("bad", [torch.zeros(3), torch.zeros(2, 2).long(), torch.tensor([-1, 2])])
def test_unfit_trials_are_refused(bad):
    with pytest.raises(UsageError):
        trials(bad)
    with pytest.raises(UsageError):
        Trials(torch.zeros(2).long(), math.nan, "exact", "")
