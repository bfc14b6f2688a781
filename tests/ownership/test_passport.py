from __future__ import annotations

import json
from copy import deepcopy

import pytest
import torch
from kit import Small, quiet, trained_convnet
from torch import nn

from freehold.attacks.filter import Filter
from freehold.attacks.permute import Permute
from freehold.attacks.prune import Prune
from freehold.attacks.structured import PruneChannels
from freehold.data import Domains, InputSpec
from freehold.data.sources import load_domain
from freehold.errors import ConfigError, ProblemsError, SecretError
from freehold.keys import Key
from freehold.metrics.accuracy import share_correct
from freehold.models.recipe import Recipe
from freehold.models.zoo import ModelSpec, load_model
from freehold.ownership.base import verify
from freehold.ownership.observation import Decision
from freehold.ownership.passport import Passport
from freehold.ownership.passport_marks import draw_marks
from freehold.ownership.passport_reading import pairs_in
from freehold.ownership.suspect import suspect
from freehold.ownership.trigger_set import TriggerSet
from freehold.plugin import Access
from freehold.seeds import global_draws

SPEC = InputSpec(size=16)
KEY = Key(bytes(range(32)), "ACME")
SHORT = {"steps": 30, "batch_size": 32}


@pytest.fixture(scope="module")
def domains() -> Domains:
    return Domains(load_domain("digits", limit=600), [], SPEC)


@pytest.fixture(scope="module")
def trained(domains):
    return trained_convnet(domains, 40)


@pytest.fixture(scope="module")
def marked(domains, trained):
    return Passport(**SHORT).protect(trained, domains, run=quiet(precision="bf16"), key=KEY)


def asked(model, key: Key, spec: InputSpec = SPEC, **options):
    return verify(suspect(model, input=spec, **options), key, commitment=key.commitment)


def test_a_marked_model_is_plain_and_known_and_its_original_is_not(domains, trained, marked):
    found = asked(marked.model, marked.key)
    assert found.decision == Decision.MATCH and found.matches == found.trials == 672
    assert found.parts == tuple(
        (f"features.{n}", c, c)
        for n, c in zip((0, 4, 7, 11, 14, 18), (32, 64, 64, 128, 128, 256), strict=True)
    )
    assert found.access == "weights" and found.queries == 0 and found.null == "exact"
    assert asked(trained, marked.key).decision == Decision.NO_MATCH
    assert list(marked.model.state_dict()) == list(trained.state_dict())
    assert not any("forward" in module.__dict__ for module in marked.model.modules())


def test_both_branches_work_and_forged_passports_do_not(domains, trained, marked):
    test, figures = domains.authorized.test, marked.record["figures"]
    before = share_correct(trained, test, SPEC)
    private = Passport(**SHORT).private(marked.model, marked.key)
    assert share_correct(marked.model, test, SPEC) > before - 0.03
    assert share_correct(private, test, SPEC) > before - 0.08
    assert figures["bits read"] == 1 and figures["accuracy with random passports, mean"] < 0.3
    val = domains.authorized.val
    assert figures["private accuracy"] == pytest.approx(share_correct(private, val, SPEC), abs=0.03)
    assert figures["accuracy"] == pytest.approx(share_correct(marked.model, val, SPEC), abs=0.03)


def test_rewriting_and_pruning_the_network_hide_nothing(domains, marked):
    own = domains.authorized
    pruned = Prune(share=0.5).run(marked.model, own, SPEC, run=quiet())
    thief = Permute().run(pruned.model, own, SPEC, run=quiet())
    assert thief.after.value == pytest.approx(thief.before.value, abs=0.01)
    found = asked(thief.model, marked.key)
    assert found.decision == Decision.MATCH and found.matches >= 0.98 * 672


def test_wrapping_the_network_hides_nothing(domains, marked):
    thief = Filter(filter="jpeg").run(marked.model, domains.authorized, SPEC, run=quiet()).model
    assert "features.0" not in dict(thief.named_modules())
    found = asked(nn.Sequential(nn.Identity(), thief), marked.key)
    assert (found.decision, found.matches) == (Decision.MATCH, 672)


@pytest.mark.parametrize("share", [0.2, 0.4])
def test_channels_that_were_cut_out_are_no_trials_and_the_rest_is_found(domains, marked, trained, share):
    pytest.importorskip("torch_pruning", reason="the extra [prune] is not installed")
    own = domains.authorized

    def thin(model):
        cut = PruneChannels(share=share, epochs=0).run(model, own, SPEC, run=quiet()).model
        return asked(Permute().run(cut, own, SPEC, run=quiet()).model, marked.key)

    found, innocent = thin(marked.model), thin(trained)
    assert found.decision == Decision.MATCH and found.trials < (1 - share + 0.05) * 672
    assert any(
        caveat.startswith(f"{672 - found.trials} of 672 could not be read") for caveat in found.caveats
    )
    assert innocent.decision == Decision.NO_MATCH and 0.4 < innocent.matches / innocent.trials < 0.6


def test_filters_that_were_put_out_are_no_trials(domains, marked):
    thief = deepcopy(marked.model)
    with torch.no_grad():
        thief.get_submodule(marked.key.facts["layers"][-1]["layer"]).weight[1:] = 0
    found = asked(thief, marked.key)
    last = marked.key.facts["layers"][-1]["channels"]
    assert found.matches == found.trials == 672 - (last - 1) and found.decision == Decision.MATCH
    assert found.parts[-1] == (marked.key.facts["layers"][-1]["layer"], 1, 1)


def test_the_published_reading_is_lost_to_signs_and_order(domains, trained):
    method = Passport(reading="published", steps=2, batch_size=8)
    marked = method.protect(trained, domains, run=quiet(), key=KEY)
    assert asked(marked.model, marked.key).decision == Decision.MATCH
    thief = Permute().run(marked.model, domains.authorized, SPEC, run=quiet()).model
    assert asked(thief, marked.key).decision != Decision.MATCH


def test_nothing_counts_without_the_commitment(marked):
    found = verify(suspect(marked.model, input=SPEC), marked.key)
    assert found.decision == Decision.INCONCLUSIVE and "commitment" in found.reason
    with pytest.raises(SecretError, match="committed to"):
        verify(suspect(marked.model, input=SPEC), marked.key, commitment="0" * 64)
    changed = {**marked.key.learned, "reference.features.0": torch.zeros(32, 27)}
    key = marked.key
    other = key.bound(key.method, dict(key.settings), dict(key.facts), changed)
    assert other.commitment != key.commitment


def test_suspects_that_show_too_little_or_are_built_otherwise_are_inconclusive(marked):
    shut = asked(marked.model, marked.key, access=Access.LABELS)
    assert shut.decision == Decision.INCONCLUSIVE and "weights are needed" in shut.reason
    other = asked(load_model("resnet20", 10), marked.key)
    assert other.decision == Decision.INCONCLUSIVE and "features.0" in other.reason
    narrow = load_model("convnet", 10)
    narrow.features[0] = nn.Conv2d(3, 12, 3)
    narrow.features[1], narrow.features[4] = nn.BatchNorm2d(12), nn.Conv2d(12, 64, 3)
    assert "another shape" in asked(narrow, marked.key).reason
    broken = load_model("convnet", 10)
    broken.features[4].weight.data[0] = float("nan")
    assert asked(broken, marked.key).decision == Decision.INCONCLUSIVE


def test_the_key_comes_back_from_its_file(marked, tmp_path, monkeypatch):
    monkeypatch.setattr("freehold.keys.vault.LOG2_N", 14)
    marked.key.save(tmp_path / "k", "pw")
    loaded = Key.load(tmp_path / "k", "pw", method="passport")
    assert loaded == marked.key and asked(marked.model, loaded).decision == Decision.MATCH
    assert loaded.facts["released"] == marked.record["shipped_hash"]


@pytest.mark.parametrize("scheme", ["pan", "deepipr-v2"])
def test_a_trigger_set_on_top_gives_a_second_verdict(domains, trained, marked, scheme):
    method = TriggerSet(
        recipe="plain", weight=1, lr=5e-4, steps=60, triggers=40, batch_size=32, trigger_batch=20
    )
    if scheme != "pan":
        passport = Passport(scheme=scheme, steps=4, batch_size=16)
        marked = passport.protect(trained, domains, run=quiet(), key=KEY)
    both = method.protect(marked.model, domains, run=quiet(precision="bf16"), key=KEY)
    first = verify(
        suspect(both.model, input=SPEC, access=Access.LABELS), both.key, commitment=both.key.commitment
    )
    second = asked(both.model, marked.key)
    assert first.decision == second.decision == Decision.MATCH
    assert (first.method, second.method) == ("trigger-set", "passport")


@pytest.mark.parametrize("layers", ["last-3", "features.1*", "features.4, features.18"])
def test_chosen_layers_are_marked_and_no_others(domains, trained, layers):
    marked = Passport(layers=layers, steps=2, batch_size=8).protect(trained, domains, run=quiet(), key=KEY)
    expected = {"last-3": [11, 14, 18], "features.1*": [11, 14, 18]}.get(layers, [4, 18])
    found = asked(marked.model, marked.key)
    assert [name for name, *_ in found.parts] == [f"features.{n}" for n in expected]
    assert found.matches >= 0.98 * found.trials
    # Layers in front of them, which hold no bits, tell in which order channels come in.
    thief = Permute().run(marked.model, domains.authorized, SPEC, run=quiet())
    assert asked(thief.model, marked.key).matches >= 0.98 * found.trials


@pytest.mark.parametrize(
    "fields", [{"scheme": "deepipr-v1"}, {"scheme": "deepipr-v2"}, {"joint": "alternating"}]
)
def test_other_schemes_hold_the_bits(domains, trained, fields):
    method = Passport(steps=4, batch_size=16, **fields)
    marked = method.protect(trained, domains, run=quiet(), key=KEY)
    assert asked(marked.model, marked.key).decision == Decision.MATCH
    both = "public loss" in marked.record["histories"]["passport"]["terms"]
    assert both == (fields == {"scheme": "deepipr-v2"})
    h, statistics = (
        [name for name in marked.key.learned if name.startswith(start)] for start in ("h.", "private.")
    )
    assert bool(h) == ("scheme" not in fields)
    assert bool(statistics) == (fields != {"scheme": "deepipr-v2"})
    private = method.private(marked.model, marked.key)
    images = torch.randn(2, 3, 16, 16)
    if fields == {"scheme": "deepipr-v1"}:  # what is shipped is the private branch
        assert torch.allclose(private(images), marked.model(images), atol=1e-4)
    else:
        assert not torch.allclose(private(images), marked.model(images), atol=1e-4)


def test_an_untrained_model_is_marked_while_it_is_trained(domains):
    method = Passport(start="untrained", steps=40, batch_size=32, lr=3e-3)
    marked = method.protect(load_model("convnet", 10), domains, run=quiet(precision="bf16"), key=KEY)
    figures = marked.record["figures"]
    assert figures["accuracy"] > 0.5 and figures["private accuracy"] > 0.3 and figures["bits read"] == 1
    terms = marked.record["histories"]["passport"]["terms"]["sign loss"]
    assert terms[0] == terms[19] == 0 and max(terms[20:]) > 0
    assert asked(marked.model, marked.key).decision == Decision.MATCH


class Other(nn.Module):
    """A small network with the norm that is asked for."""

    def __init__(self, norm: str) -> None:
        super().__init__()
        make = {
            "group": lambda c: nn.GroupNorm(4, c),
            "instance": lambda c: nn.InstanceNorm2d(c, affine=True),
            "layer": lambda c: nn.LayerNorm([c]),
            "none": lambda c: nn.Identity(),
        }[norm]
        self.norm, self.convs = norm, nn.ModuleList([nn.Conv2d(3, 16, 3), nn.Conv2d(16, 96, 3)])
        self.norms, self.head = nn.ModuleList([make(16), make(96)]), nn.Linear(96, 10)

    def forward(self, x):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = conv(x)
            x = norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) if self.norm == "layer" else norm(x)
            x = nn.functional.max_pool2d(x.relu(), 2)
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("norm", ["group", "instance", "layer"])
def test_every_norm_takes_passports(domains, norm):
    with global_draws(0, "other"):
        model = Other(norm)
    method = Passport(start="untrained", steps=10, batch_size=16)
    marked = method.protect(model, domains, run=quiet(), key=KEY)
    found = asked(marked.model, marked.key)
    assert found.decision == Decision.MATCH and found.trials == 112
    assert not [name for name in marked.key.learned if name.startswith("private.")]
    images = torch.randn(2, 3, 16, 16)
    assert not torch.allclose(method.private(marked.model, marked.key)(images), marked.model(images))


def refused(domains, model, **fields) -> str:
    with pytest.raises(ProblemsError) as caught:
        Passport(**fields).protect(model, domains, run=quiet())
    return str(caught.value)


def test_what_cannot_be_marked_is_refused_before_work(domains):
    assert "no norm with a scale and a shift" in refused(domains, Other("none"))
    assert "did you mean features.0" in refused(domains, Small(), layers="featurs.0")
    assert "8 bits" in refused(domains, Small(), layers="features.0")
    assert "hold 0 bits" in refused(domains, Small(), layers="last-0")
    tiny = nn.Sequential(
        nn.Conv2d(3, 32, 1), nn.BatchNorm2d(32), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)
    )
    assert "3 weights a filter" in refused(domains, tiny, layers="0")
    assert "hold 0 bits" in refused(domains, tiny)
    for fields in ({"layers": ""}, {"scheme": "deepipr"}, {"margin": 0}, {"layer": "all"}):
        with pytest.raises(ConfigError):
            Passport(**fields)


def test_keys_of_other_methods_are_refused(marked):
    with pytest.raises(SecretError):
        TriggerSet().verify(suspect(marked.model, input=SPEC), marked.key)
    with pytest.raises(SecretError, match="other settings"):
        Passport(margin=0.5).verify(suspect(marked.model, input=SPEC), marked.key)


def test_a_key_that_names_no_layers_is_refused(marked):
    facts = {name: fact for name, fact in marked.key.facts.items() if name != "layers"}
    key = marked.key.bound(marked.key.method, marked.key.settings, facts, marked.key.learned)
    with pytest.raises(SecretError, match="which layers"):
        asked(marked.model, key)


def test_neither_record_nor_model_nor_verdict_tells_passports_or_bits(marked, tmp_path):
    text = json.dumps(marked.record) + asked(marked.model, marked.key).model_dump_json() + repr(marked)
    mark = draw_marks(marked.key, pairs_in(marked.key))[0]
    bits, scale = mark.bits.to(torch.uint8), mark.scale
    assert json.dumps(bits.tolist())[1:40] not in text and f"{float(scale[0]):.5f}" not in text
    raw = b"".join(t.numpy().tobytes() for t in marked.model.state_dict().values())
    bare = ModelSpec(uri="convnet", num_classes=10)
    marked.save(tmp_path, Recipe(model=bare, input=SPEC, classes=tuple("0123456789")))
    raw += b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for kind in (torch.uint8, torch.float32, torch.int64):
        assert bits.to(kind).numpy().tobytes() not in raw
    assert scale.numpy().tobytes()[:16] not in raw
    for half in (bytes(range(16)), bytes(range(16, 32))):
        assert half not in raw and half.hex().encode() not in raw
