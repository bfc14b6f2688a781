"""Answers beyond a suspect's habit: more of a worn mark is seen, and nothing where there is none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import freehold as fh
from freehold.keys import Key
from freehold.ownership.base import verify
from freehold.ownership.habit import Habit
from freehold.ownership.record import Recorded
from freehold.ownership.suspect import CallableSuspect
from freehold.ownership.trigger_set import TriggerSet
from freehold.plugin import Access

SPEC, CLASSES, METHOD = fh.InputSpec(size=16), 10, TriggerSet(triggers=200)


def key_of(number: int) -> Key:
    facts = {"input": SPEC.model_dump(mode="json"), "num_classes": CLASSES}
    return Key(number.to_bytes(32, "big"), "owner").bound(METHOD.name, METHOD.model_dump(mode="json"), facts)


def suspect_of(scores: Tensor, access: Access = Access.PROBABILITIES) -> CallableSuspect:
    """Gives ``scores (n, K)`` one after the other, whatever it is asked."""
    rows = iter(scores.softmax(1))

    def answer(images: Tensor) -> Tensor:
        return torch.stack([next(rows) for _ in images])

    return CallableSuspect(answer, SPEC, CLASSES, access=access)


def worn(key: Key, strength: float) -> Tensor:
    """Scores of a copy that leans to the right labels, but far more to two classes."""
    rng = torch.Generator().manual_seed(0)
    scores = torch.randn(METHOD.triggers, CLASSES, generator=rng)
    scores[torch.arange(METHOD.triggers), METHOD._trials(key).labels] += strength
    return scores + torch.tensor([4.0, 0, 0, 3, 0, 0, 0, 0, 0, 0])


def test_the_class_farthest_above_the_mean_logarithm_of_all_answers_so_far():
    first, second = torch.rand(2, 5, CLASSES, generator=torch.Generator().manual_seed(1)).softmax(2)
    habit = Habit()
    assert torch.equal(habit.beyond(first), (first.log() - first.log().mean(0)).argmax(1))
    together = torch.cat([first, second]).log().mean(0)
    assert torch.equal(habit.beyond(second), (second.log() - together).argmax(1))


def test_a_worn_mark_is_found_by_what_stands_out_and_not_by_labels():
    key = key_of(1)
    scores = worn(key, 2.0)
    by_labels = verify(suspect_of(scores, Access.LABELS), key, commitment=key.commitment)
    beyond = verify(suspect_of(scores), key, commitment=key.commitment)
    assert by_labels.decision != "MATCH" and by_labels.matches < 50
    assert beyond.decision == "MATCH" and beyond.matches > 80


def test_without_a_mark_matches_are_binomial_whatever_the_habit():
    scores = worn(key_of(1), 2.0)  # of another key's mark
    found = [verify(suspect_of(scores), key_of(n), commitment=key_of(n).commitment) for n in range(2, 62)]
    total, n = sum(v.matches for v in found), METHOD.triggers * len(found)
    assert abs(total - n / CLASSES) < 4 * (n * 0.09) ** 0.5
    assert all(v.decision != "MATCH" for v in found)


@pytest.mark.parametrize("scores", [torch.zeros(200, CLASSES), torch.eye(CLASSES)[[3] * 200] * 1e4])
def test_a_constant_suspect_never_matches(scores):
    key = key_of(1)
    assert verify(suspect_of(scores), key, commitment=key.commitment).decision == "NO_MATCH"


def test_a_record_answers_as_its_suspect_and_counts_as_it_does():
    key = key_of(1)
    scores = worn(key, 2.0)
    plain, recorded = suspect_of(scores), Recorded(suspect_of(scores))
    first, second = (verify(s, key, commitment=key.commitment) for s in (plain, recorded))
    assert (first.matches, first.queries) == (second.matches, second.queries)
    assert int((recorded.answers == METHOD._trials(key).labels).sum()) == first.matches
    assert recorded.images.shape == (200, 3, 16, 16)
