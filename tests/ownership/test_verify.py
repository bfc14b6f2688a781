"""Verdicts end to end, on suspects that answer by rule."""

from __future__ import annotations

import json
import math

import pytest
import torch
from ownership_kit import SPEC, answers, knowing, trigger_key

from freehold.data import InputSpec
from freehold.errors import ModelError, SecretError, UsageError
from freehold.keys import Key
from freehold.ownership.base import verify, verify_all
from freehold.ownership.observation import Decision
from freehold.ownership.suspect import CallableSuspect
from freehold.ownership.trigger_set import TriggerSet
from freehold.ownership.verdict import Verdict, several
from freehold.plugin import Access

KEY = trigger_key()
CHANCE = torch.Generator().manual_seed(0)


def test_a_suspect_that_knows_the_answers_matches():
    verdict = verify(knowing(KEY), KEY, commitment=KEY.commitment)
    assert verdict.decision == Decision.MATCH and (verdict.matches, verdict.trials) == (100, 100)
    assert verdict.p_value == pytest.approx(1e-100) and verdict.p_adjusted >= verdict.p_value
    assert verdict.queries == 100 and verdict.committed and verdict.null == "exact"
    assert (verdict.rate, verdict.access, verdict.owner) == (0.1, "labels", "ACME")
    assert verdict.low > 0.96 and verdict.high == 1 and "1/10" in verdict.why
    assert any("statistical evidence" in caveat for caveat in verdict.caveats)
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict


def test_another_key_does_not():
    for number in range(1, 15):
        other = trigger_key(number)
        assert verify(knowing(KEY), other, commitment=other.commitment).decision != Decision.MATCH


ODD = {
    "constant": lambda n: torch.full((n,), 3),
    "random": lambda n: torch.randint(10, (n,), generator=CHANCE),
    "uniform probabilities": lambda n: torch.full((n, 10), 0.1),
    "not finite": lambda n: torch.full((n, 10), math.nan),
    "infinite": lambda n: torch.full((n, 10), math.inf),
    "too short": lambda n: torch.zeros(n - 1, dtype=torch.int64),
    "too long": lambda n: torch.zeros(n + 1, 10),
    "too wide": lambda n: torch.zeros(n, 11),
    "out of range": lambda n: torch.full((n,), 10),
    "negative": lambda n: torch.full((n,), -1),
    "truth values": lambda n: torch.ones(n, dtype=torch.bool),
    "complex": lambda n: torch.ones(n, 10, dtype=torch.complex64),
    "a scalar": lambda n: torch.tensor(3),
    "no tensor": lambda n: [0] * n,
    "nothing": lambda n: None,
    "failing": lambda n: 1 / 0,
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("sequential", [False, True])
def test_odd_suspects_never_match(name, sequential):
    for key in (KEY, trigger_key(1), trigger_key(2)):
        verdict = verify(answers(ODD[name]), key, commitment=key.commitment, sequential=sequential)
        assert verdict.decision != Decision.MATCH
        honest = name in ("constant", "random", "uniform probabilities")
        if not honest:
            assert verdict.decision == Decision.INCONCLUSIVE
            assert verdict.p_value == 1 and "suspect" in verdict.reason


def test_a_suspect_that_breaks_off_late_is_inconclusive_however_well_it_began():
    good, asked = knowing(KEY), []

    def fails_late(images):
        asked.append(len(images))
        return good._function(images) if sum(asked) < 90 else torch.full((len(images), 10), math.nan)

    verdict = verify(CallableSuspect(fails_late, SPEC, 10), KEY, commitment=KEY.commitment)
    assert verdict.decision == Decision.INCONCLUSIVE and verdict.trials == 80 and verdict.p_value == 1


def test_sequential_querying_is_cheap_where_the_case_is_clear():
    guilty = verify(knowing(KEY), KEY, commitment=KEY.commitment, sequential=True)
    assert guilty.decision == Decision.MATCH and guilty.queries <= 16 and guilty.sequential
    innocent = verify(answers(ODD["random"]), KEY, commitment=KEY.commitment, sequential=True)
    assert innocent.decision == Decision.NO_MATCH and innocent.queries < 100
    partly = verify(knowing(KEY, 0.6), KEY, commitment=KEY.commitment, sequential=True)
    assert partly.decision == Decision.MATCH and 16 <= partly.queries < 100


def test_sequential_verdicts_keep_their_level():
    wrong = 0
    for number in range(200):
        key = trigger_key(number, method=TriggerSet(triggers=48), classes=4)
        suspect = answers(lambda n: torch.randint(4, (n,), generator=CHANCE), classes=4)
        verdict = verify(suspect, key, alpha=0.05, commitment=key.commitment, sequential=True)
        wrong += verdict.decision == Decision.MATCH
    assert wrong <= 18  # of 200 at 0.05: more has a chance below 1e-2


def test_few_triggers_without_commitment_cost_no_query():
    key = trigger_key(method=TriggerSet(triggers=20))
    verdict = verify(knowing(key), key)
    assert verdict.decision == Decision.INCONCLUSIVE and verdict.queries == 0 and "too few" in verdict.reason
    assert verify(knowing(key), key, commitment=key.commitment).decision == Decision.MATCH


def test_the_wrong_commitment_is_refused_and_case_does_not_matter():
    with pytest.raises(SecretError, match="not the one that was committed to"):
        verify(knowing(KEY), KEY, commitment=trigger_key(1).commitment)
    assert verify(knowing(KEY), KEY, commitment=KEY.commitment.upper() + "\n").committed


def test_keys_that_do_not_fit_are_refused():
    with pytest.raises(SecretError, match="other settings"):
        TriggerSet(triggers=50).verify(knowing(KEY), KEY)
    for method, hint in (("map", "no ownership method"), ("passports-of-mars", "unknown method")):
        with pytest.raises(SecretError, match=hint):
            verify(knowing(KEY), KEY.bound(method, {}, KEY.facts))
    with pytest.raises(SecretError, match="is not of trigger-set"):
        TriggerSet().verify(knowing(KEY), Key.born("ACME"))
    with pytest.raises(UsageError, match="is no key"):
        TriggerSet().verify(knowing(KEY), "secret")


@pytest.mark.parametrize("alpha", [0, -1, 0.5, math.nan])
def test_impossible_levels_are_refused(alpha):
    with pytest.raises(UsageError, match="alpha"):
        verify(knowing(KEY), KEY, alpha=alpha)


def test_suspects_of_another_shape_are_refused_before_any_query():
    for suspect, error in (
        (CallableSuspect(ODD["constant"], SPEC, 7), ModelError),
        (CallableSuspect(ODD["constant"], InputSpec(size=16), 10), UsageError),
        (CallableSuspect(ODD["constant"], InputSpec(size=8, channels=1), 10), UsageError),
    ):
        with pytest.raises(error):
            verify(suspect, KEY)
        assert suspect.queries == 0


def test_a_suspect_that_shows_too_little_is_inconclusive():
    class Nosy(TriggerSet):
        access = Access.WEIGHTS

    verdict = Nosy(triggers=100).verify(knowing(KEY), KEY, commitment=KEY.commitment)
    assert verdict.decision == Decision.INCONCLUSIVE and verdict.queries == 0
    assert "weights are needed and labels are given" in verdict.reason


def test_several_suspects_are_corrected_for_their_number():
    published = [KEY.commitment]
    cases = [(knowing(KEY, 0.24), KEY), *[(answers(ODD["random"]), KEY) for _ in range(5)]]
    alone = verify(*cases[0], commitment=KEY.commitment)
    together = verify_all(cases, commitments=published)
    assert alone.decision == Decision.MATCH and [v.decision for v in together].count(Decision.MATCH) <= 1
    assert together[0].p_adjusted > alone.p_adjusted
    assert all(b.p_adjusted >= b.p_value for b in together)
    many = several([alone] * 1 + together[1:] * 200, 1e-6)
    assert many[0].decision == Decision.INCONCLUSIVE and "tried" in many[0].reason
    assert verify_all([]) == []


def test_of_several_a_sequential_test_stops_where_it_holds_among_all():
    cases = [(knowing(KEY), KEY), *[(answers(ODD["random"]), KEY) for _ in range(99)]]
    first, *others = verify_all(cases, commitments=[KEY.commitment], sequential=True)
    alone = verify(knowing(KEY), KEY, commitment=KEY.commitment, sequential=True)
    assert alone.queries <= first.queries < verify(knowing(KEY), KEY).queries
    assert first.decision == Decision.MATCH and first.p_adjusted <= first.alpha == alone.alpha
    assert all(v.decision != Decision.MATCH and v.sequential for v in others)


def test_a_verdict_tells_nothing_of_the_key():
    text = verify(knowing(KEY), KEY).model_dump_json() + repr(verify(knowing(KEY), KEY))
    labels = json.dumps(KEY.stream("labels").integers(10, 100).tolist())
    assert KEY._secret.hex() not in text and labels[:30] not in text
