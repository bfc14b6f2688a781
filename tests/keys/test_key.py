from __future__ import annotations

import copy
import io
import json
import pickle
import traceback

import pytest
import torch
from torch import nn

from freehold.errors import SecretError, UsageError
from freehold.keys import Key

SECRET = bytes(range(100, 132))


def key(**changes) -> Key:
    given = {
        "owner": "ACME",
        "method": "m",
        "settings": {"n": 3, "names": ["a"]},
        "facts": {"num_classes": 10},
        "learned": {"w": torch.arange(6.0).view(2, 3)},
        "secret": SECRET,
    }
    return Key(**{**given, **changes})


def test_born_keys_differ_and_have_owners():
    one, two = Key.born("ACME"), Key.born("ACME")
    assert one != two and one.owner == "ACME" and one.method == ""


@pytest.mark.parametrize(
    "change",
    [
        {"owner": "Acme"},
        {"method": "n"},
        {"settings": {"n": 4, "names": ["a"]}},
        {"facts": {"num_classes": 11}},
        {"learned": {"w": torch.arange(6.0).view(3, 2)}},
        {"learned": {"v": torch.arange(6.0).view(2, 3)}},
        {"secret": bytes(32)},
    ],
)
def test_the_commitment_covers_everything(change):
    assert key(**change).commitment != key().commitment and key(**change) != key()


def test_the_commitment_does_not_depend_on_order_or_layout():
    other = key(
        settings={"names": ("a",), "n": 3}, learned={"w": torch.arange(6.0).view(2, 3).t().clone().t()}
    )
    assert other.commitment == key().commitment and other == key() and hash(other) == hash(key())


def test_streams_depend_on_secret_owner_and_method_only():
    labels = key().stream("labels").integers(10, 50)
    assert torch.equal(labels, key(settings={}, facts={}, learned={}).stream("labels").integers(10, 50))
    for change in ({"owner": "B"}, {"method": "n"}, {"secret": bytes(32)}):
        assert not torch.equal(labels, key(**change).stream("labels").integers(10, 50))


def test_releasing_adds_the_hash_of_the_weights():
    released = key().released("ab")
    assert released.facts == {"num_classes": 10, "released": "ab"} and released != key()
    assert torch.equal(released.learned["w"], key().learned["w"])


def test_it_is_redacted_wherever_it_is_shown():
    shown = [repr(key()), str(key()), f"{key()}", f"{[key()]}"]
    try:
        raise ValueError(key())
    except ValueError:
        shown.append(traceback.format_exc())
    for text in shown:
        assert "ACME" in text and SECRET.hex() not in text and repr(SECRET)[2:20] not in text


def test_it_is_never_pickled_nor_saved_with_a_module():
    model = nn.Linear(2, 2)
    model.key = key()
    assert "key" not in model.state_dict() and not list(model.buffers())
    for attempt in (lambda: pickle.dumps(key()), lambda: torch.save(model, io.BytesIO())):
        with pytest.raises(SecretError, match="never pickled"):
            attempt()
    with pytest.raises(TypeError):
        json.dumps(key())
    with pytest.raises(TypeError):
        model.register_buffer("secret", key())


def test_it_does_not_change():
    one, source = key(), torch.ones(3)
    for name in ("owner", "_secret", "learned", "new"):
        with pytest.raises(AttributeError):
            setattr(one, name, "x")
    with pytest.raises(TypeError):
        one.settings["n"] = 5
    held = key(learned={"w": source})
    before = held.commitment
    source.zero_()
    assert held.commitment == before
    assert copy.copy(one) is one and copy.deepcopy(one) is one


@pytest.mark.parametrize(
    "bad",
    [
        {"secret": b"short"},
        {"secret": "x" * 32},
        {"owner": "two\nlines"},
        {"owner": 3},
        {"settings": {"n": float("nan")}},
        {"facts": {"t": torch.ones(1)}},
        {"learned": {"w": torch.tensor([float("inf")])}},
    ],
)
def test_unfit_material_is_refused_without_being_shown(bad):
    with pytest.raises((SecretError, UsageError)) as caught:
        key(**bad)
    assert SECRET.hex() not in str(caught.value)


def test_comparison_takes_no_shortcut(monkeypatch):
    compared = []
    monkeypatch.setattr(
        "freehold.keys.key.hmac.compare_digest", lambda a, b: compared.append((a, b)) or a == b
    )
    assert key() == key() and key() != key(owner="B")
    assert len(compared) == 2 and all(len(a) == len(b) == 64 for a, b in compared)
    assert key() != "a key"
