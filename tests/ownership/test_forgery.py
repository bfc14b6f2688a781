from __future__ import annotations

from functools import cache, partial

import pytest
import torch
from kit import quiet
from ownership_kit import SPEC as SMALL
from ownership_kit import answers, knowing
from ownership_kit import trigger_key as key_number

from freehold.attacks.ambiguity import closed_form, reverse_engineered
from freehold.attacks.false_claims import adversarial_triggers, labels_after_the_fact
from freehold.attacks.published import DETECTED, TRIGGERS
from freehold.attacks.substitute import Substitute
from freehold.bench import forgeries
from freehold.bench.cell import Cell
from freehold.bench.scene import Forged
from freehold.bench.stages import Base, Made, Place
from freehold.data import Domains, InputSpec
from freehold.data.sources import load_domain
from freehold.errors import SecretError
from freehold.keys import Key
from freehold.models.alignment import align
from freehold.models.norm_pairs import NormPair
from freehold.models.zoo import load_model
from freehold.ownership.forgery import (
    _first_draw,
    _secret,
    forged_key,
    ground,
    judged,
    passport_key,
    sorting_reference,
    trigger_key,
)
from freehold.ownership.observation import UNCOMMITTED, Decision, Observation, Trials
from freehold.ownership.passport import Passport
from freehold.ownership.passport_marks import draw_marks, read_bits
from freehold.ownership.suspect import CallableSuspect, suspect
from freehold.ownership.trigger_set import TriggerSet
from freehold.seeds import global_draws
from freehold.training import Trainer
from freehold.training.classifier import Supervised, train_classifier

SPEC = InputSpec(size=16)
FORGER = bytes(range(100, 132))
OWNER = Key(bytes(range(32)), "ACME")
SECRETS = 1 << 20
# What the published protocol grants to anybody.
FOOLING = ("adversarial triggers", "adversarial triggers, innocent model", "labels after the fact")


@pytest.fixture(scope="module")
def domains() -> Domains:
    return Domains(load_domain("digits", limit=200), [], SPEC)


@pytest.fixture(scope="module")
def marked(domains):
    with global_draws(0, "model"):
        model = load_model("convnet", 10)
    method = Passport(steps=4, batch_size=16, layers="features.4,features.7,features.11")
    return method.protect(model, domains, run=quiet(precision="bf16"), key=OWNER)


@pytest.fixture(scope="module")
def network(domains):
    """Networks by seed that have learned a little, so that they can be fooled."""

    @cache
    def make(seed: int):
        model = load_model("convnet", 10, seed=seed)
        short = Supervised(steps=20, batch_size=16)
        train_classifier(model, domains.authorized, SPEC, short, Trainer(quiet(precision="bf16")))
        return model.eval()

    return make


@pytest.fixture(scope="module")
def taught(domains, network):
    method = TriggerSet(recipe="plain", triggers=40, steps=4, batch_size=16, trigger_batch=4)
    return method.protect(network(0), domains, run=quiet(precision="bf16"), key=OWNER)


@pytest.fixture
def brought(domains, network, monkeypatch):
    """Makes any forgery of the benchmark, each fit and search as short as can be, and has it judged."""

    def given(cell, place):
        return Base(network(cell.config["seed"]), None, domains, quiet())

    for name, value in {"base": given, "DRAWS": 2, "GROUND": 64, "TRIGGERS": 40}.items():
        monkeypatch.setattr(forgeries, name, value)
    shorter = {
        "reverse_engineered": partial(reverse_engineered, steps=2),
        "Substitute": partial(Substitute, epochs=8),
        "adversarial_triggers": partial(adversarial_triggers, steps=12, rate=30.0),
    }
    for name, value in shorter.items():
        monkeypatch.setattr(forgeries, name, value)

    def bring(name, protected):
        made = Made(protected.model, protected.key)
        monkeypatch.setattr(forgeries, "protected", lambda cell, place: made)
        return forgeries.forge(name, Cell({"seed": 0}, {}), Place.default())

    return bring


def chosen(pair: NormPair) -> torch.Tensor:
    return torch.arange(pair.channels) % 2


def test_the_closed_form_forgery_is_refused_and_the_owner_is_not(marked):
    model, registry = suspect(marked.model, input=SPEC), {marked.key.commitment}
    claim = closed_form(marked.model, SPEC.example(), chosen)
    assert claim.detected(marked.model) == 1.0
    found = judged(model, passport_key(FORGER, model, claim), registry)
    assert not found.accepted and found.stopped_by == "mathematics"
    assert found.verdict.decision == Decision.INCONCLUSIVE  # nothing was committed to
    assert found.believed.decision == Decision.NO_MATCH and found.believed.p_value > 1e-3
    true = judged(model, marked.key, registry)
    assert true.accepted and true.stopped_by == "nothing" and true.verdict.matches == 256


def test_back_dating_is_refused_before_any_trial(marked):
    model, registry = suspect(marked.model, input=SPEC), {marked.key.commitment}
    layers = [NormPair(**pair) for pair in marked.key.facts["layers"]]
    key = forged_key(FORGER, Passport(), model, layers=layers, learned=marked.key.learned, owner="ACME")
    found = judged(model, key, registry, presented=marked.key.commitment)
    assert found.verdict is None and "committed to" in found.refusal
    assert not found.accepted and found.stopped_by == "mathematics"


def test_a_reference_made_from_the_bits_sorts_nothing(marked):
    """It would sort the filters of a network that nobody marked, if bits did not depend on it."""
    innocent = load_model("convnet", 10)
    pairs = [NormPair(**pair) for pair in marked.key.facts["layers"]]
    model = suspect(innocent, input=SPEC)
    key = sorting_reference(forged_key(FORGER, Passport(), model, layers=pairs))
    unbound = draw_marks(key, pairs, {})[0]
    weight = innocent.features[4].weight.detach()
    sorted_ = align(weight, key.learned["reference.features.4"].float().view_as(weight)).weight
    share = (read_bits(sorted_, unbound, canonical=True) == unbound.bits).float().mean()
    assert share > 0.8
    found = judged(model, key, {key.commitment})  # published before the release
    assert not found.accepted and found.verdict.committed and found.verdict.p_value > 1e-3
    bound = draw_marks(key, pairs)[0]
    assert not torch.equal(bound.bits, unbound.bits) and torch.equal(bound.scale, unbound.scale)


def test_a_key_without_references_is_refused(marked):
    pairs = [NormPair(**pair) for pair in marked.key.facts["layers"]]
    model = suspect(marked.model, input=SPEC)
    with pytest.raises(SecretError, match=r"no reference for 'features.4'"):
        judged(model, forged_key(FORGER, Passport(), model, layers=pairs), set())


def test_a_layer_that_is_listed_twice_holds_other_bits(marked):
    pair = NormPair("features.4", "features.5", 64, 288)
    first, second = draw_marks(OWNER, [pair, pair])
    assert 16 < int((first.bits != second.bits).sum()) < 48


def test_passports_count_every_reference_that_could_have_been_tried(marked):
    trials = Passport()._trials(marked.key)
    assert trials.tried == UNCOMMITTED
    half = trials.labels.clone()
    half[: len(half) * 35 // 100] ^= 1  # 65 % right: 2e-6 for one key, nothing for the best of many
    lucky = Observation(trials, half, 1e-5, 0.9, committed=True)
    assert lucky.chance() < 1e-5 and lucky.decide()[0] != Decision.MATCH
    once = Observation(Trials(trials.labels, 0.5, "exact", ""), half, 1e-5, 0.9, committed=True)
    assert once.decide()[0] == Decision.MATCH


def test_labels_after_the_fact_and_chosen_images_are_not_even_read():
    images = torch.randint(256, (40, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    innocent = answers(lambda n: torch.arange(n) % 10)
    claim = labels_after_the_fact(innocent.labels, images)
    assert claim.accepted(innocent.labels(images))
    key = trigger_key(FORGER, innocent, claim, TriggerSet(triggers=40))
    found = judged(innocent, key, set())
    assert not found.accepted and found.stopped_by == "mathematics"
    plain = forged_key(FORGER, TriggerSet(triggers=40), innocent)
    assert judged(innocent, plain, set()).believed.matches == found.believed.matches


def test_the_best_of_a_million_secrets_is_no_match():
    """A suspect that favours an answer, which is what grinding labels can use."""
    favours = CallableSuspect(lambda x: (x.flatten(1).sum(1) > 20).long() * 3 + 2, SMALL, 10)
    method = TriggerSet(triggers=20)
    key = ground(favours, method, seeds=SECRETS, finalists=16)
    found = judged(favours, key, set())
    assert not found.accepted and found.verdict.p_adjusted == 1.0
    assert found.believed.matches >= 6  # of 20, where chance gives 2
    labels = method._trials(key).labels.tolist()
    assert max(labels.count(answer) for answer in range(10)) >= 9


def test_grinding_draws_what_keys_draw():
    key = key_number(5)
    drawn = _first_draw(_secret(5), 400, "ACME", "trigger-set", "labels")
    words = torch.frombuffer(bytearray(drawn), dtype=torch.int32).long() % (1 << 32)
    assert torch.equal(words % 10, key.stream("labels").integers(10, 100))


def test_what_only_a_date_stops_is_called_so():
    """20 triggers taught to a stolen copy: a match that counts only if it was committed to in time."""
    key = key_number(1, method=TriggerSet(triggers=20))
    found = judged(knowing(key), key, set())
    assert not found.accepted and found.believed.decision == Decision.MATCH and found.stopped_by == "date"


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for name, (kinds, _) in forgeries.FORGERIES.items() for kind in kinds if kind != "ptynet"],
)
def test_no_forgery_is_accepted_and_no_date_would_help_it(kind, name, marked, taught, brought):
    found = brought(name, {"passport": marked, "trigger-set": taught}[kind])
    assert not found["accepted"] and found["stopped by"] == "mathematics"
    assert found["matches"][1] >= 40 and found["p, its date believed"] > 1e-3  # what the key draws was asked
    shown = found["as published"] or {}
    if kind == "passport" and shown:  # the published reading finds all but random bits
        assert (shown["own bits detected"] >= DETECTED) == (name != "random passports")
    elif name in FOOLING:
        assert found["published"] is True and shown["triggers"] >= TRIGGERS


def test_true_claims_are_accepted_where_forgeries_are_not(marked, brought, monkeypatch):
    """The same way, with nothing forged."""

    def own(scene):
        return Forged(None, scene.key, scene.made.model)

    monkeypatch.setitem(forgeries.FORGERIES, "nothing forged", (("passport",), own))
    found = brought("nothing forged", marked)
    assert found["accepted"] and found["stopped by"] == "nothing" and found["matches"] == [256, 256]
