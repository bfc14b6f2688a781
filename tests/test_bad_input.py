"""Whatever is handed to the public entry points, only our own errors come out, and quickly."""

from __future__ import annotations

import time

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit import METHODS, Small, quiet, small

import freehold as fh
from freehold.data import Domain, Split
from freehold.errors import ConfigError, DataError, FreeholdError, MissingInputError
from freehold.plugin import find
from freehold.training import Loop
from freehold.training.classifier import Supervised

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.integers(), max_size=3),
)
MODELS = [*(find(name) for name in METHODS), fh.Run, fh.Claims, fh.InputSpec, Loop, Supervised]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_option_models_take_good_values_and_refuse_all_others(data):
    model = data.draw(st.sampled_from(MODELS))
    names = st.one_of(st.sampled_from(sorted(model.model_fields)), st.text(min_size=1, max_size=8))
    fields = data.draw(st.dictionaries(names, JUNK, max_size=3))
    try:
        model(**fields)
    except ConfigError as error:
        assert error.where and str(error)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=30))
def test_any_text_is_a_domain_or_a_clear_error(uri):
    try:
        fh.load_domain(uri)
    except FreeholdError as error:
        assert str(error)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=20), st.one_of(st.integers(-3, 20), st.text(max_size=3)))
def test_any_text_is_a_model_or_a_clear_error(uri, classes):
    try:
        fh.load_model(uri, classes)
    except FreeholdError as error:
        assert str(error)


SHAPES = st.lists(st.integers(0, 6), min_size=0, max_size=5).map(tuple)
DTYPES = st.sampled_from([torch.uint8, torch.float32, torch.int64, torch.bool])


@settings(max_examples=100, deadline=None)
@given(SHAPES, DTYPES, SHAPES, DTYPES, st.integers(-2, 12))
def test_any_tensors_are_a_split_or_a_clear_error(shape, dtype, label_shape, label_dtype, value):
    images = torch.zeros(shape, dtype=dtype)
    labels = torch.full(label_shape, value).to(label_dtype)
    try:
        split = Split(images, labels)
        Domain("d", tuple("0123456789"), split, split, split)
    except DataError as error:
        assert error.where


def labelled(*labels: int) -> Split:
    return Split(torch.zeros(len(labels), 3, 32, 32, dtype=torch.uint8), torch.tensor(labels))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: labelled(0, 0), "class"),
        (lambda: labelled(0, 12), "label 12"),
    ],
)
def test_domains_that_cannot_teach_are_refused(make, named):
    with pytest.raises(DataError, match=named):
        Domain("d", tuple("0123456789"), make(), make(), make())


def test_mismatched_classes_name_both_domains():
    one, two = (Domain(n, c, *[labelled(0, 1)] * 3) for n, c in (("one", ("a", "b")), ("two", ("b", "a"))))
    given, model = fh.Domains(one, [two]), Small()
    with pytest.raises(DataError, match=r"'one' and 'two'.*class 0"):
        fh.evaluate(model, model, given)
    for name in METHODS:
        if find(name).same_classes:
            found = find(name)().problems(model, given)
            assert "domains 'one' and 'two'" in [p.where for p in found]


@pytest.mark.parametrize("name", METHODS)
def test_refusals_come_before_work_in_under_a_second(name):
    domain = Domain("d", tuple("0123456789"), *[labelled(0, 1)] * 3)
    broken = Small()
    broken.head.weight.data.fill_(float("inf"))
    small(find(name)).problems(Small(), fh.Domains(domain))  # imports are not what is timed
    began = time.monotonic()
    with pytest.raises(FreeholdError):
        find(name)().protect(broken, fh.Domains(domain), run=quiet())
    assert time.monotonic() - began < 1


def test_missing_files_are_named():
    for call in (
        lambda: fh.load_domain("npz:nowhere.npz"),
        lambda: fh.load_model("convnet", 10, "nowhere.safetensors"),
    ):
        with pytest.raises(MissingInputError, match="nowhere"):
            call()
