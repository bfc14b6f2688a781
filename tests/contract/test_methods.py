"""What every registered method must do, run over all of them."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from kit import METHODS, Small, quiet, small
from torch import nn
from torch.nn.utils import parametrize

from freehold.data import Domains, InputSpec
from freehold.errors import ConfigError, FreeholdError, ProblemsError
from freehold.models.checkpoint import Recipe, load_checkpoint, state_hash
from freehold.models.zoo import ModelSpec, load_model


def traces(model: nn.Module) -> list[str]:
    """Hooks and parametrizations that somebody left behind."""
    found = [
        n for n, m in model.named_modules() if m._forward_hooks or m._forward_pre_hooks or m._backward_hooks
    ]
    return found + [n for n, m in model.named_modules() if parametrize.is_parametrized(m)]


def snapshot(model: nn.Module) -> tuple[object, ...]:
    flags = [(m.training, type(m)) for m in model.modules()]
    return state_hash(model), flags, [p.requires_grad for p in model.parameters()], traces(model)


def test_there_are_methods_to_test():
    assert {"map", "ntl", "cuti"} <= set(METHODS)


def test_the_card_tells_what_it_must(method):
    card = method.card
    assert card.paper and card.venue and card.goal and card.changed and card.needs
    assert card.breaks, "every protection has a known break"
    assert method.name in METHODS and method.__doc__


def test_every_field_is_explained_and_its_default_is_allowed(method):
    for field in method.fields():
        assert field.description, field.name
    assert method().model_dump() == {f.name: f.default for f in method.fields()}


def test_a_misspelt_field_names_the_nearest(method):
    with pytest.raises(ConfigError, match="did you mean 'steps'"):
        method(stepz=3)


def test_missing_domains_are_named_at_once(method, domains):
    model = Small()
    if method().needs_authorized:
        found = method().problems(model, Domains(None, domains.unauthorized, domains.input))
        assert "authorized" in [p.where for p in found]
    if method().needs_unauthorized:
        found = method().problems(model, Domains(domains.authorized, (), domains.input))
        assert "unauthorized" in [p.where for p in found]


@pytest.mark.parametrize("fault", ["nan", "classes", "size", "no parameters"])
def test_unfit_models_are_refused_before_work(method, domains, fault):
    model, given = Small(), domains
    if fault == "nan":
        model.head.weight.data[0, 0] = float("nan")
    elif fault == "classes":
        model.head = nn.Linear(96, 7)
    elif fault == "size":
        given = Domains(domains.authorized, domains.unauthorized, InputSpec(size=32, channels=1))
    else:
        model = nn.Flatten()
    with pytest.raises(ProblemsError) as caught:
        small(method).protect(model, given, run=quiet())
    assert caught.value.problems and all(p.what for p in caught.value.problems)


def test_the_callers_model_stays_as_it_was(method, domains):
    model = Small().train()
    model.features[0].eval()
    model.head.bias.requires_grad_(False)
    before = snapshot(model)
    small(method).protect(model, domains, run=quiet())
    assert snapshot(model) == before


@pytest.mark.parametrize("calls", [1, 3, 5, 8])
def test_nothing_is_left_behind_by_a_crash_inside_the_model(method, domains, calls):
    model = Small(crash_after=calls)
    before = snapshot(model)
    with pytest.raises((RuntimeError, FreeholdError), match="crash inside the model"):
        small(method).protect(model, domains, run=quiet())
    assert snapshot(model) == before


def test_the_result_is_a_plain_model_that_loads_into_the_bare_architecture(method, domains, tmp_path):
    model = load_model("convnet", 10)
    protected = small(method).protect(model, domains, run=quiet())
    assert traces(protected.model) == [] and not protected.model.training
    expected: nn.Module = copy.deepcopy(model)
    for edit in protected.edits:
        expected = edit.apply(expected)
    assert list(protected.model.state_dict()) == list(expected.state_dict())
    assert [type(m) for m in protected.model.modules()] == [type(m) for m in expected.modules()]
    recipe = Recipe(
        model=ModelSpec(uri="convnet", num_classes=10),
        input=domains.input,
        classes=domains.authorized.classes,
    )
    protected.save(tmp_path, recipe)
    loaded, read = load_checkpoint(tmp_path)
    images = torch.randn(4, 3, 32, 32)
    assert read == recipe.model_copy(update={"edits": protected.edits})
    assert torch.equal(loaded.eval()(images), protected.model(images))
    assert (protected.key is None) == (method.kind == "authorization")


def test_same_seed_same_hash_other_seed_other_hash(method, domains):
    hashes = [
        small(method).protect(Small(), domains, run=quiet(seed=s)).record["shipped_hash"] for s in (5, 5, 6)
    ]
    if method.name == "map":  # few steps move no score across the threshold
        assert hashes[0] == hashes[1]
    else:
        assert hashes[0] == hashes[1] != hashes[2]


def test_the_record_is_json_and_says_what_was_done(method, domains):
    model = Small()
    protected = small(method).protect(model, domains, run=quiet(seed=3))
    record = json.loads(json.dumps(protected.record, allow_nan=False))
    assert record["method"] == method.name and record["seed"] == 3 and record["fields"]["steps"] == 4
    assert record["source_hash"] == state_hash(model)
    assert record["shipped_hash"] == state_hash(protected.model)
    assert all(history["terms"]["loss"] for history in record["histories"].values())
    assert set(record["domains"]) == {"digits-m", "digits"}


def test_interrupted_and_resumed_equals_uninterrupted(method, domains, tmp_path):
    whole = small(method).protect(Small(), domains, run=quiet()).record["shipped_hash"]
    run = quiet(directory=tmp_path, checkpoint_seconds=0)
    calls = {"ntl": 5, "cuti": 5, "map": 9, "ntp": 30, "trigger-set": 20, "passport": 14}.get(method.name, 5)
    with pytest.raises((RuntimeError, FreeholdError), match="crash inside"):
        small(method).protect(Small(crash_after=calls), domains, run=run)
    assert small(method).protect(Small(), domains, run=run).record["shipped_hash"] == whole


@pytest.mark.parametrize("wrap", ["data parallel", "compiled"])
def test_wrapped_models_are_taken_out_of_their_wrapping(method, domains, wrap):
    model = nn.DataParallel(Small()) if wrap == "data parallel" else torch.compile(Small(), backend="eager")
    protected = small(method).protect(model, domains, run=quiet())
    assert isinstance(getattr(protected.model, "target", protected.model), Small)


@pytest.mark.parametrize("uri", ["timm:resnet10t", "timm:test_vit"])
def test_timm_networks_are_protected_end_to_end(method, domains, uri):
    size = 32
    options = {"img_size": size} if uri.endswith("vit") else {}
    model = load_model(uri, 10, **options)
    given = Domains(domains.authorized, domains.unauthorized, InputSpec(size=size))
    before = copy.deepcopy(model.state_dict())
    if method.name == "passport" and uri.endswith("vit"):  # its norms stand in front of layers
        with pytest.raises(ProblemsError, match="no norm"):
            small(method).protect(model, given, run=quiet())
        return
    protected = small(method).protect(model, given, run=quiet())
    assert protected.model(torch.zeros(2, 3, size, size)).shape == (2, 10)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
