from __future__ import annotations

import copy
import json

import pytest
import torch
from kit import Small, quiet, trained_convnet

from freehold.data import Domains, InputSpec
from freehold.data.sources import load_domain
from freehold.errors import UsageError
from freehold.keys import Key
from freehold.metrics.accuracy import share_correct
from freehold.models.zoo import load_model
from freehold.ownership import embedding
from freehold.ownership.base import verify
from freehold.ownership.observation import Decision
from freehold.ownership.suspect import suspect
from freehold.ownership.trigger_set import TriggerSet

SPEC = InputSpec(size=16)
KEY = Key(bytes(range(32)), "ACME")


@pytest.fixture(scope="module")
def domains() -> Domains:
    return Domains(load_domain("digits", limit=600), [], SPEC)


@pytest.fixture(scope="module")
def trained(domains):
    return trained_convnet(domains, 60)


@pytest.fixture(scope="module")
def marked(domains, trained):
    method = TriggerSet(
        recipe="plain", weight=1, lr=5e-4, steps=60, triggers=40, batch_size=32, trigger_batch=20
    )
    return method.protect(trained, domains, run=quiet(precision="bf16"), key=KEY)


def test_a_marked_model_is_known_and_its_original_is_not(domains, trained, marked):
    committed = marked.record["commitment"]
    assert committed == marked.key.commitment
    found = verify(suspect(marked.model, input=SPEC), marked.key, commitment=committed)
    assert found.decision == Decision.MATCH and found.p_adjusted < 1e-12
    assert verify(suspect(trained, input=SPEC), marked.key, commitment=committed).decision != Decision.MATCH
    test = domains.authorized.test
    assert share_correct(marked.model, test, SPEC) > share_correct(trained, test, SPEC) - 0.05


def test_its_figures_are_what_a_verifier_finds(marked):
    figures = marked.record["figures"]
    asked = verify(suspect(marked.model, input=SPEC), marked.key)
    assert figures["triggers"] == pytest.approx(asked.matches / 40)
    assert "triggers on held-out images" not in figures
    assert marked.images["like the triggers"].shape == (24, 3, 16, 16)


def test_the_key_holds_the_release_and_comes_back_from_its_file(marked, tmp_path, monkeypatch):
    monkeypatch.setattr("freehold.keys.vault.LOG2_N", 14)
    assert marked.key.facts["released"] == marked.record["shipped_hash"] and marked.key.owner == "ACME"
    marked.key.save(tmp_path / "k", "pw")
    loaded = Key.load(tmp_path / "k", "pw", method="trigger-set")
    assert loaded == marked.key
    assert (
        verify(suspect(marked.model, input=SPEC), loaded, commitment=loaded.commitment).decision
        == Decision.MATCH
    )


@pytest.mark.parametrize("kind", ["content", "noise"])
def test_patterns_report_how_they_do_on_images_they_were_never_on(domains, trained, kind):
    method = TriggerSet(kind_of_trigger=kind, recipe="plain", steps=3, triggers=10, batch_size=8)
    protected = method.protect(trained, domains, run=quiet(), key=KEY)
    assert 0 <= protected.record["figures"]["triggers on held-out images"] <= 1


def test_an_untrained_model_is_marked_while_it_is_trained(domains):
    method = TriggerSet(
        start="untrained", recipe="plain", lr=2e-3, steps=60, triggers=20, batch_size=32, trigger_batch=20
    )
    protected = method.protect(load_model("convnet", 10), domains, run=quiet(precision="bf16"), key=KEY)
    assert protected.record["figures"]["triggers"] > 0.5 and protected.record["figures"]["accuracy"] > 0.5


def test_a_trained_model_is_held_to_its_own_answers_and_statistics(domains, trained):
    method = TriggerSet(steps=3, triggers=10, batch_size=8, trigger_batch=8)
    protected = method.protect(trained, domains, run=quiet(), key=KEY)
    assert all(torch.equal(b, dict(trained.named_buffers())[n]) for n, b in protected.model.named_buffers())
    assert protected.record["histories"]["trigger-set"]["terms"]["clean loss"][0] == pytest.approx(
        0, abs=1e-5
    )


def test_app_perturbs_by_the_stated_share_of_the_norm_uphill(monkeypatch):
    model, radius = Small(), 0.03
    seen = []
    real = embedding.functional_call

    def spy(module, weights, inputs):
        before = dict(module.named_parameters())
        moves = [weights[n] - before[n] for n in weights]
        seen.append(
            torch.stack([m.detach().norm() for m in moves]).norm()
            / torch.stack([p.norm() for p in before.values()]).norm()
        )
        return real(module, weights, inputs)

    monkeypatch.setattr(embedding, "functional_call", spy)
    domains = Domains(load_domain("digits", limit=60), [], InputSpec(size=32))
    method = TriggerSet(recipe="app", epsilon=radius, steps=8, batch_size=8, trigger_batch=8, lr=1e-6)
    terms = method.protect(model, domains, run=quiet(), key=KEY).record["histories"]["trigger-set"]["terms"]
    shares = [s.item() for s in seen]
    assert shares == pytest.approx([radius * min(1, t / 4 - 0.5) for t in range(3, 8)], abs=1e-6)
    assert all(m > h for h, m in zip(terms["trigger loss"][3:], terms["moved loss"][3:], strict=True))


def test_gradients_of_app_are_those_at_the_moved_weights():
    from freehold.data.batches import Batch
    from freehold.models.clean_norms import clean_norms

    rng = torch.Generator().manual_seed(0)
    batches = {
        name: Batch(
            torch.randn(6, 3, 16, 16, generator=rng), torch.randint(10, (6,), generator=rng), torch.arange(6)
        )
        for name in ("clean", "triggers")
    }
    model = Small().train()
    with clean_norms(model) as norms:
        terms = embedding.perturbed(embedding.labelled, 0.7, 0.5, 0.05, 4, norms)(model, batches, 4)
        terms["loss"].backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters()}
    twin = Small().train()
    with clean_norms(twin) as norms:
        clean = torch.nn.functional.cross_entropy(twin(batches["clean"].images), batches["clean"].labels)
        norms.hold = True

        def trigger_loss():
            return torch.nn.functional.cross_entropy(
                twin(batches["triggers"].images), batches["triggers"].labels
            )

        params = list(twin.parameters())
        uphill = torch.autograd.grad(trigger_loss(), params)
        base = torch.autograd.grad(clean, params)
        length = (
            torch.cat([p.flatten() for p in params]).norm() / torch.cat([g.flatten() for g in uphill]).norm()
        )
        with torch.no_grad():
            for p, g in zip(params, uphill, strict=True):
                p += 0.05 * length * g
        there = torch.autograd.grad(trigger_loss(), params)
    for (name, gradient), b, u, t in zip(found.items(), base, uphill, there, strict=True):
        assert torch.allclose(gradient, b + 0.7 * u + 0.5 * t, atol=1e-4), name


def test_other_keys_make_other_models_and_resuming_needs_the_same(domains, trained, tmp_path):
    method = TriggerSet(steps=2, triggers=10, batch_size=8, trigger_batch=8)
    run = quiet(directory=tmp_path, checkpoint_seconds=0)
    hashes = [
        method.protect(copy.deepcopy(trained), domains, run=quiet(), key=key).record["shipped_hash"]
        for key in (KEY, KEY, Key(bytes(32), "ACME"), Key(bytes(range(32)), "other"))
    ]
    assert hashes[0] == hashes[1] and len(set(hashes)) == 3
    method.protect(trained, domains, run=run, key=KEY)
    with pytest.raises(Exception, match="another configuration"):
        method.protect(trained, domains, run=run, key=Key(bytes(32), "ACME"))


def test_every_model_gets_a_key_of_its_own_unless_one_is_given(domains, trained):
    method = TriggerSet(steps=1, triggers=10, batch_size=8, trigger_batch=8)
    keys = {method.protect(trained, domains, run=quiet()).key.commitment for _ in range(2)}
    assert len(keys) == 2
    from freehold.authorization.map import MAP

    with pytest.raises(UsageError, match="keeps no secret"):
        MAP(variant="source-available").protect(
            trained,
            Domains(domains.authorized, [load_domain("digits-m", limit=60)], SPEC),
            run=quiet(),
            key=KEY,
        )


def test_the_record_is_json(marked):
    assert json.loads(json.dumps(marked.record, allow_nan=False))["method"] == "trigger-set"
