"""What every registered attack must do, run over all of them."""

from __future__ import annotations

import json

import pytest
import torch
from kit import Small, quiet

from freehold.attacks.base import Attack
from freehold.data import InputSpec
from freehold.data.sources import load_domain
from freehold.errors import ConfigError, ProblemsError
from freehold.models.checkpoint import state_hash
from freehold.plugin import find, names

ATTACKS = sorted(name for name in names() if issubclass(find(name), Attack))
SHORT = {"epochs": 0.5, "batch_size": 16, "steps": 3}
SPEC = InputSpec(size=32)


@pytest.fixture(params=ATTACKS)
def attack(request) -> type[Attack]:
    return find(request.param)


@pytest.fixture(scope="module")
def digits():
    return load_domain("digits", limit=60)


def pruned(**options) -> Small:
    """A network with a few zeros, so that every attack finds something to do."""
    model = Small(**options)
    with torch.no_grad():
        model.features[4].weight[:, :2] = 0
    return model


def short(attack: type[Attack]) -> Attack:
    return attack(**{k: v for k, v in SHORT.items() if k in attack.model_fields})


def test_there_are_attacks_to_test():
    assert {"fine-tune", "prune", "quantize", "perturb", "transntl", "adapt", "extract"} <= set(ATTACKS)


def test_the_card_and_the_fields_say_what_they_must(attack):
    assert attack.card.paper and attack.card.goal and attack.card.needs and attack.card.breaks
    assert all(field.description or field.unit or field.name for field in attack.fields())
    assert attack().model_dump() == {f.name: f.default for f in attack.fields()}
    strong = attack.strong()
    assert {k: getattr(strong, k) for k in attack.stronger} == attack.stronger and strong != attack()


def test_the_attacked_model_stays_as_it_is_and_the_account_is_json(attack, digits):
    model = pruned().train()
    before, flags = state_hash(model), [m.training for m in model.modules()]
    attacked = short(attack).run(model, digits, SPEC, run=quiet())
    assert state_hash(model) == before == attacked.record["attacked_hash"]
    assert [m.training for m in model.modules()] == flags
    assert state_hash(attacked.model) == attacked.record["result_hash"]
    assert json.loads(json.dumps(attacked.record))["attack"] == attack.name
    assert attacked.before.n == attacked.after.n == attacked.at_end.n == len(digits.test)
    left = attacked.record["left"]
    assert left["after"]["value"] == attacked.after.value and left["at end"]["n"] == len(digits.test)
    assert attacked.last(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_the_same_seed_repeats(attack, digits):
    first, again = (short(attack).run(pruned(), digits, SPEC, run=quiet(seed=3)) for _ in range(2))
    assert first.record["result_hash"] == again.record["result_hash"]


def test_what_does_not_fit_is_refused_before_work(attack, digits):
    for model, spec in ((torch.nn.Flatten(), SPEC), (Small(), InputSpec(size=32, channels=1))):
        with pytest.raises(ProblemsError) as caught:
            attack().run(model, digits, spec, run=quiet())
        assert caught.value.problems
    with pytest.raises(ConfigError):
        attack(epoch=3)
