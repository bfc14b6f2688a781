"""Whose copy leaked: at most one name, nobody who is innocent, and every query counted."""

from __future__ import annotations

import pytest
import torch
from kit import Small, quiet
from ownership_kit import SPEC, answers, knowing

from freehold.attacks.fine_tune import FineTune
from freehold.data import Domains, InputSpec
from freehold.data.sources import load_domain
from freehold.errors import ModelError, SuspectError, UsageError
from freehold.evidence.trace import TOGETHER, trace
from freehold.keys import Key
from freehold.ownership.observation import Decision
from freehold.ownership.suspect import CallableSuspect, suspect
from freehold.ownership.trigger_set import TriggerSet
from freehold.statistics import holm
from freehold.training import Trainer
from freehold.training.classifier import Supervised, train_classifier

MASTER = Key(bytes(range(32)), "ACME")
METHOD = TriggerSet(triggers=60)


def key_of(name: str, *, method: TriggerSet = METHOD, classes: int = 10, spec: InputSpec = SPEC) -> Key:
    facts = {"customer": name, "input": spec.model_dump(mode="json"), "num_classes": classes}
    return MASTER.for_customer(name).bound(method.name, method.model_dump(mode="json"), facts)


KEYS = {f"customer {number}": key_of(f"customer {number}") for number in range(TOGETHER + 1)}
COMMITTED = [key.commitment.upper() for key in KEYS.values()]


def mixture(*names: str) -> CallableSuspect:
    """Knows the answers of several customers' copies, each as soon as it sees that key's images."""
    parts = [knowing(KEYS[name]) for name in names]
    seen = [METHOD._images(KEYS[name]) for name in names]

    def look_up(batch: torch.Tensor) -> torch.Tensor:
        pixels = ((batch + 1) * 127.5).round().flatten(1)
        nearest = [torch.cdist(pixels, images.flatten(1).float()).min(1).values for images in seen]
        found = torch.stack([part._function(batch) for part in parts])
        return found.gather(0, torch.stack(nearest).argmin(0)[None])[0]

    return CallableSuspect(look_up, SPEC, 10)


@pytest.mark.parametrize("name", ["customer 0", f"customer {TOGETHER}"])
def test_the_customer_whose_copy_it_is_is_named(name):
    one = knowing(KEYS[name], 0.6)
    found = trace(one, KEYS, commitments=COMMITTED)
    assert found.decision == Decision.MATCH and found.customer == name == found.copies[0].customer
    assert found.queries == one.queries == 60 * len(KEYS) and len(found.copies) == len(KEYS)
    assert all(copy.verdict.committed and copy.verdict.queries == 60 for copy in found.copies)
    p_values = [copy.verdict.p_value for copy in found.copies]
    assert found.copies[0].verdict.p_adjusted >= holm(p_values)[0]
    assert found.copies[0].verdict.p_adjusted == pytest.approx(
        len(KEYS) * max(p_values[0], found.copies[0].verdict.p_given_answers)
    )


def test_where_two_remain_nobody_is_named():
    found = trace(mixture("customer 1", "customer 7"), KEYS, commitments=COMMITTED)
    assert found.decision == Decision.INCONCLUSIVE and found.customer == ""
    assert {copy.customer for copy in found.copies[:2]} == {"customer 1", "customer 7"}
    assert "'customer 1'" in found.reason and "'customer 7'" in found.reason


def test_where_none_reaches_the_level_nobody_is_named():
    weak = knowing(KEYS["customer 3"], 0.2)
    found = trace(weak, KEYS, commitments=COMMITTED)
    assert (
        found.decision == Decision.INCONCLUSIVE
        and not found.customer
        and "no customer's mark" in found.reason
    )
    # The same answers decide where fewer customers share the level, or where the keys were committed to.
    edge = knowing(KEYS["customer 3"], 0.5)
    assert trace(edge, KEYS, commitments=COMMITTED).customer == "customer 3"
    assert trace(edge, KEYS).decision == Decision.INCONCLUSIVE


def test_a_match_alone_is_none_among_many():
    for share in range(24, 48, 2):
        one = knowing(KEYS["customer 3"], share / 100)
        alone = trace(one, {"customer 3": KEYS["customer 3"]}, commitments=COMMITTED)
        if alone.customer:
            assert not trace(one, KEYS, commitments=COMMITTED).customer
            return
    pytest.fail("no share decides")


@pytest.mark.parametrize("seed", range(3))
def test_the_innocent_are_not_accused(seed):
    generator = torch.Generator().manual_seed(seed)
    constant = answers(lambda count: torch.full((count,), seed))
    chance = answers(lambda count: torch.randint(10, (count,), generator=generator))
    for one in (constant, chance):
        found = trace(one, KEYS, commitments=COMMITTED)
        assert found.decision == Decision.NO_MATCH and not found.customer


def test_a_copy_of_another_kind_is_left_out_and_said_so():
    few = {**KEYS, "seven": key_of("seven", classes=7), "larger": key_of("larger", spec=InputSpec(size=12))}
    found = trace(knowing(KEYS["customer 2"]), few, commitments=COMMITTED)
    assert found.customer == "customer 2" and dict(found.left_out).keys() == {"seven", "larger"}
    with pytest.raises(ModelError, match="7"):
        trace(knowing(KEYS["customer 2"]), {"seven": few["seven"]})


def test_what_cannot_be_traced_is_refused():
    with pytest.raises(UsageError, match="no copies"):
        trace(knowing(KEYS["customer 2"]), {})
    with pytest.raises(UsageError, match="alpha"):
        trace(knowing(KEYS["customer 2"]), KEYS, alpha=0.2)
    with pytest.raises(SuspectError):
        trace(answers(lambda count: 1 / 0), KEYS)


def test_few_answers_cannot_name_anybody():
    method = TriggerSet(triggers=10)
    keys = {name: key_of(name, method=method) for name in "ab"}
    one = knowing(keys["a"])
    found = trace(one, keys)
    assert found.decision == Decision.INCONCLUSIVE and not found.customer


def test_four_copies_of_one_model_are_told_apart_after_fine_tuning():
    spec = InputSpec(size=16)
    digits = load_domain("digits", limit=160)
    domains = Domains(digits, [], spec)
    source = Small()
    train_classifier(source, digits, spec, Supervised(steps=20), Trainer(quiet()))
    method = TriggerSet(
        recipe="plain", triggers=60, steps=60, lr=0.005, weight=1.0, batch_size=16, trigger_batch=60
    )
    names = ("north", "east", "south", "west")
    copies = {
        name: method.protect(source, domains, run=quiet(), key=MASTER.for_customer(name)) for name in names
    }
    keys = {name: made.key for name, made in copies.items()}
    commitments = [key.commitment for key in keys.values()]
    thief = FineTune(epochs=5, lr=0.001)
    for name, made in copies.items():
        assert made.key.facts["customer"] == name
        stolen = thief.run(made.model, digits, spec, run=quiet(seed=1)).last
        found = trace(suspect(stolen, input=spec), keys, commitments=commitments)
        assert found.customer == name, found.reason
    assert not trace(suspect(source, input=spec), keys, commitments=commitments).customer
