from __future__ import annotations

import copy
from collections import Counter

import pytest
import torch
from kit import Small, quiet, trained_convnet
from scipy import stats
from torch import nn

from freehold.attacks.prune import Prune
from freehold.attacks.quantize import Quantize
from freehold.attacks.surgery import CutBranch
from freehold.data import Domains, InputSpec
from freehold.data.batches import normalise
from freehold.data.sources import load_domain
from freehold.errors import ConfigError, ModelError, ProblemsError, SecretError, UsageError
from freehold.keys import Key, Stream
from freehold.metrics.accuracy import apply
from freehold.models.checkpoint import Recipe
from freehold.models.fusion import FUSIONS, Branch, Fused, margin
from freehold.models.weights import state_hash
from freehold.ownership.backgrounds import Foregrounds
from freehold.ownership.base import verify
from freehold.ownership.calibration import Calibration
from freehold.ownership.observation import Decision
from freehold.ownership.ptynet import PTYNet
from freehold.ownership.suspect import CallableSuspect, suspect
from freehold.seeds import generator, global_draws

SPEC = InputSpec(size=16)
SECRET = b"canary-canary-canary-canary-3141"
KEY = Key(SECRET, "ACME")
METHOD = PTYNet(steps=160, batch_size=64, families=16, foregrounds=3)


def bound(number: int, method: PTYNet = METHOD, classes: int = 10, spec: InputSpec = SPEC) -> Key:
    """Key ``number``, as if a model had been marked with it."""
    facts = {"input": spec.model_dump(mode="json"), "num_classes": classes}
    key = Key(number.to_bytes(32, "big"), "ACME")
    return key.bound("ptynet", method.model_dump(mode="json"), facts)


@pytest.fixture(scope="module")
def domains() -> Domains:
    return Domains(load_domain("digits", limit=900), [], SPEC)


@pytest.fixture(scope="module")
def trained(domains):
    return trained_convnet(domains, 60)


@pytest.fixture(scope="module")
def marked(domains, trained):
    return METHOD.protect(trained, domains, run=quiet(), key=KEY)


def pooled(classes: int) -> nn.Module:
    """A network for images of any size."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, classes))


def committed(model: nn.Module, key: Key, **options):
    return verify(suspect(model, input=SPEC), key, commitment=key.commitment, **options)


def logits(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(normalise(images, SPEC))


def test_the_marked_model_is_known_and_its_target_is_not(trained, marked):
    found = committed(marked.model, marked.key)
    assert found.decision == Decision.MATCH and found.p_adjusted <= 1e-6 and found.trials == 16
    assert found.queries == 16 * 3 and found.null == "exact" and found.rate == 0.1
    assert committed(trained, marked.key).decision != Decision.MATCH
    assert committed(marked.model.target, marked.key).decision != Decision.MATCH
    quick = committed(marked.model, marked.key, sequential=True)
    assert quick.decision == Decision.MATCH and quick.queries <= found.queries


def test_the_target_is_not_touched_and_ordinary_answers_keep_every_bit(domains, trained, marked):
    assert isinstance(marked.model, Fused)
    assert state_hash(marked.model.target) == state_hash(trained) == marked.record["source_hash"]
    assert any(state_hash(trained) in note for note in marked.record["notes"])
    test = domains.authorized.test
    # Not ``trained`` itself: its weights lie in memory in another order, and sums round otherwise.
    before, after = (apply(m, test, SPEC) for m in (marked.model.target, marked.model))
    opened = margin(apply(marked.model.branch, test, SPEC)) > 0
    assert opened.float().mean() < 0.02
    assert torch.equal(before[~opened], after[~opened])


def test_new_things_before_the_backgrounds_get_the_secret_answers(marked):
    own, labels = METHOD._backgrounds(marked.key), METHOD._trials(marked.key).labels
    things = Foregrounds(Stream(bytes(32), "new"), 160, SPEC)
    right = logits(marked.model, things.before(own.repeat(10, 1, 1, 1))).argmax(1) == labels.repeat(10)
    assert right.float().mean() > 0.95


def test_other_keys_are_at_chance(marked):
    found = [committed(marked.model, bound(n)) for n in range(6)]
    assert not [v for v in found if v.decision == Decision.MATCH]
    matches = sum(v.matches for v in found)
    assert stats.binom.ppf(0.0005, 6 * 16, 0.1) <= matches <= stats.binom.ppf(0.9995, 6 * 16, 0.1)


def test_its_figures_say_what_it_costs_and_what_was_counted(domains, marked):
    figures = marked.record["figures"]
    branch, target = (
        sum(p.numel() for p in m.parameters()) for m in (marked.model.branch, marked.model.target)
    )
    assert figures["weights of the branch"] == branch <= 150_000
    assert figures["its weights to the target's"] == pytest.approx(branch / target)
    assert 0 < figures["its operations to the target's"] < 1
    counted = domains.authorized.val.images[1::2]
    passed, count = figures["ordinary images that open the gate"], figures["ordinary images"]
    assert count == len(counted)
    upper = stats.beta.ppf(0.975, passed + 1, count - passed)
    assert figures["their share is at most"] == pytest.approx(upper)
    assert figures["triggers"] > 0.9 and figures["threshold of the gate"] > 0
    assert any("cannot show fewer" in note for note in marked.record["notes"])


def test_the_answers_outlive_what_a_thiefs_service_does_to_images(marked):
    figures = marked.record["figures"]
    assert min(figures[f"triggers after {name}"] for name in ("blur", "noise", "crop", "jpeg")) > 0.7


def test_other_owners_backgrounds_leave_the_gate_closed(marked):
    assert marked.record["figures"]["other owners' images that open the gate"] < 0.2


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_answers_the_trial(marked, fusion):
    model = copy.deepcopy(marked.model)
    model.fusion = fusion
    assert committed(model, marked.key).decision == Decision.MATCH


def test_its_fields_choose_the_fusion_and_the_card_warns_of_the_published_one(domains, trained):
    method = METHOD.model_copy(update={"steps": 1, "fusion": "probability_sum", "strength": 2.0})
    protected = method.protect(trained, domains, run=quiet(), key=KEY)
    assert protected.model.fusion == "probability_sum" and protected.model.strength == 2
    assert protected.edits[0].fusion == "probability_sum" and protected.edits[0].strength == 2
    assert any("sums betray" in note for note in protected.record["notes"])
    assert any("do not sum to one" in change for change in PTYNet.card.changed)
    assert any("cut" in broken for broken in PTYNet.card.breaks)


def test_cutting_the_branch_takes_the_mark_and_nothing_else(domains, trained, marked):
    cut = CutBranch().run(marked.model, domains.authorized, SPEC, run=quiet())
    assert state_hash(cut.model) == state_hash(trained)
    found = committed(cut.model, marked.key)
    assert found.decision != Decision.MATCH and found.matches <= stats.binom.ppf(0.9995, 16, 0.1)
    assert cut.after.value >= cut.before.value - 0.01
    plain = CutBranch().run(trained, domains.authorized, SPEC, run=quiet())
    assert state_hash(plain.model) == state_hash(trained)


@pytest.mark.parametrize("attack", [Prune(share=0.3), Quantize(bits=8)], ids=["pruned", "quantized"])
def test_the_mark_outlives_attacks_that_cut_nothing_off(domains, marked, attack):
    thief = attack.run(marked.model, domains.authorized, SPEC, run=quiet()).model
    assert committed(thief, marked.key).decision == Decision.MATCH


def test_one_trial_is_one_family_however_many_images_are_asked():
    for foregrounds in (1, 9, 99):
        method = PTYNet(families=12, foregrounds=foregrounds)
        trials = method._trials(bound(0, method))
        assert len(trials.labels) == 12 and trials.rate == 0.1
    one = PTYNet(families=1, foregrounds=99)
    trials = one._trials(bound(0, one))
    assert trials.rate ** len(trials.labels) == pytest.approx(0.1)


def test_the_commonest_answer_of_a_family_counts():
    method = PTYNet(families=16, foregrounds=5)
    key = bound(3, method)
    given = torch.randint(3, (16, 5), generator=generator(0, "answers"))
    images = method._images(key).float().flatten(1)

    def look_up(batch: torch.Tensor) -> torch.Tensor:
        pixels = ((batch + 1) * 127.5).round().flatten(1)
        return given.flatten()[torch.cdist(pixels, images).argmin(1)]

    answers = torch.cat(list(method._observe(CallableSuspect(look_up, SPEC, 10), key)))
    for row, answer in zip(given.tolist(), answers.tolist(), strict=True):
        counts = Counter(row)
        assert counts[answer] == max(counts.values())


def test_innocent_answers_to_the_images_match_as_chance_has_it():
    """A suspect that depends on the images in whatever way knows nothing of the labels."""

    def by_colour(batch: torch.Tensor) -> torch.Tensor:
        return (batch.mean((1, 2, 3)) * 40).long().clamp(0, 9)

    method, keys = PTYNet(families=16, foregrounds=1), 60
    innocent = CallableSuspect(by_colour, SPEC, 10)
    found = [verify(innocent, bound(n, method), alpha=0.05, commitment=bound(n, method).commitment)
             for n in range(keys)]  # fmt: skip
    matches, trials = sum(v.matches for v in found), keys * 16
    assert stats.binom.ppf(0.0005, trials, 0.1) <= matches <= stats.binom.ppf(0.9995, trials, 0.1)
    reached = stats.binom.sf(stats.binom.isf(0.05, 16, 0.1), 16, 0.1)
    assert sum(v.p_value <= 0.05 for v in found) <= stats.binom.ppf(0.9995, keys, reached)


@pytest.mark.parametrize(("classes", "families"), [(10, 8), (2, 20), (2, 1), (1000, 1)])
def test_too_few_families_are_refused_before_any_work(classes, families):
    method = PTYNet(families=families, steps=1)
    model = pooled(classes)
    found = method._problems(model, Domains(None, [], SPEC))
    assert [p.where for p in found] == ["families"] and "at least" in found[0].fix
    enough = int(found[0].fix.split()[2].rstrip(";"))
    assert not PTYNet(families=enough)._problems(model, Domains(None, [], SPEC))
    assert PTYNet(families=enough - 1)._problems(model, Domains(None, [], SPEC))


def test_a_key_whose_answers_vary_too_little_is_refused_before_training(domains, trained, monkeypatch):
    monkeypatch.setattr(Stream, "integers", lambda self, bound, *shape: torch.full(shape, 4))
    with pytest.raises(SecretError, match="vary too little"):
        METHOD.protect(trained, domains, run=quiet(), key=KEY)


def test_what_does_not_fit_is_refused_before_any_work(domains, marked):
    small = Domains(domains.authorized, [], InputSpec(size=8))
    with pytest.raises(ProblemsError, match="show no background"):
        METHOD.protect(pooled(10), small, run=quiet())
    with pytest.raises(UsageError, match="takes 3 x"):
        verify(suspect(Small(), input=InputSpec(size=32)), marked.key)
    other = pooled(7)
    with pytest.raises(ModelError, match="7 classes"):
        verify(suspect(other, input=SPEC), marked.key)
    with pytest.raises(SecretError, match="other settings"):
        PTYNet().verify(suspect(other, input=SPEC), marked.key)
    for wrong in ({"fusion": "sum"}, {"families": 0}, {"false_activation": 0.0}, {"foreground": 3}):
        with pytest.raises(ConfigError):
            PTYNet(**wrong)


def test_by_default_a_verdict_is_within_reach_even_without_a_commitment():
    for number in range(20):
        method = PTYNet()
        assert method._best(method._trials(bound(number, method)).labels, 10) * 2**64 <= 1e-6


def test_nothing_of_the_key_is_in_what_is_shipped(domains, marked, tmp_path):
    marked.save(tmp_path, Recipe(input=SPEC, classes=domains.authorized.classes))
    labels = METHOD._trials(marked.key).labels
    own, trial = METHOD._backgrounds(marked.key), METHOD._images(marked.key)
    forms = [SECRET, SECRET.hex().encode(), labels.numpy().tobytes()[:64], own[0, 0].numpy().tobytes()[:32]]
    forms += [",".join(map(str, labels.tolist()[:8])).encode(), trial[0, 0].numpy().tobytes()[:32]]
    shown = marked.images["like the triggers"]
    files = [path.read_bytes() for path in tmp_path.iterdir()]
    texts = [repr(marked).encode(), repr(marked.record).encode(), shown.numpy().tobytes()]
    assert len(files) == 2
    assert not [form for form in forms for data in files + texts if form in data]
    assert sorted(n for n, _ in marked.model.named_buffers() if "target" not in n) == []
    assert not (shown.flatten(1)[:, None] == trial.flatten(1)[None]).all(2).any()


@pytest.mark.parametrize("share", [0.1, 0.02, 1e-3])
def test_the_threshold_lets_no_more_ordinary_images_pass_than_it_may(share):
    with global_draws(0, "branch"):
        fused = Fused(Small(), Branch(10, pool=1)).eval()
    draws = generator(1, "images")
    spec = InputSpec(size=32)
    ordinary, triggers = (torch.randint(256, (n, 3, 32, 32), generator=draws).byte() for n in (400, 50))
    found = Calibration(fused, spec, ordinary, triggers)
    notes = found.set_threshold(share)
    assert found.opened(found.chosen_on).float().mean() <= share
    assert found.threshold > 0
    assert any("200 ordinary images" in note for note in notes) == (share < 0.0183)


def test_another_secret_or_owner_makes_another_branch(domains, trained):
    method = METHOD.model_copy(update={"steps": 2})
    keys = (Key(bytes(32), "ACME"), Key(SECRET, "other"))
    hashes = [method.protect(trained, domains, run=quiet(), key=k).record["shipped_hash"] for k in keys]
    assert len(set(hashes)) == 2


def test_the_branch_begins_at_weights_that_the_key_draws(domains, trained, monkeypatch):
    seeds = []

    def spy(*given, **named):
        seeds.append(torch.initial_seed())
        return Branch(*given, **named)

    monkeypatch.setattr("freehold.ownership.ptynet.Branch", spy)
    method = METHOD.model_copy(update={"steps": 1})
    keys = [method.protect(trained, domains, run=quiet(), key=k).key for k in (KEY, Key(bytes(32), "ACME"))]
    expected = []
    for key in keys:
        with global_draws(key.stream("network").seed(), "branch"):
            expected.append(torch.initial_seed())
    assert seeds == expected and len(set(seeds)) == 2
