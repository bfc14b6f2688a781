from __future__ import annotations

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freehold.data import SHIFTS, Domain, InputSpec, Split, load_domain, parse_shift
from freehold.data.carve import cap, carve, stratified_order
from freehold.errors import ConfigError, DataError, FreeholdError, UsageError

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("digit", "did you mean 'digits'"),
        ("digits-n", "did you mean 'digits"),
        ("npy:a.npz", "did you mean 'npz'"),
        ("data/mnist.npz", "did you mean 'npz:data/mnist.npz'"),
        ("npz:", "write npz:PATH"),
        ("torchvision", "write torchvision:NAME"),
        ("", "one of: digits"),
        ("digits | rotat=3", "unknown shift 'rotat'"),
        ("digits |", "unknown shift ''"),
        (7, "expected a text, got int"),
    ],
)
def test_an_unknown_source_gets_a_hint(uri, told):
    with pytest.raises(UsageError, match=told):
        load_domain(uri)


def test_a_bare_folder_gets_a_hint(tmp_path):
    with pytest.raises(UsageError, match="did you mean 'folder:"):
        load_domain(str(tmp_path))


def test_shifts_are_read_before_anything_is_loaded(tmp_path):
    with pytest.raises(UsageError, match="unknown shift 'blurr'"):
        load_domain(f"npz:{tmp_path / 'gone.npz'} | blurr=1")


def test_options_apply_to_every_source():
    domain = load_domain("digits-m", name="mine", image_size=16, limit=50)
    assert domain.name == "mine"
    assert {k: tuple(s.images.shape) for k, s in domain.splits().items()} == dict.fromkeys(
        ("train", "val", "test"), (50, 3, 16, 16)
    )
    assert domain.record["limit"] == "at most 50 images a split, sampled with seed 0"
    assert domain.record["sizes"]["train"] == 50
    assert domain.train.labels.bincount().tolist() == [5] * 10
    assert load_domain("digits | invert", name="negative").name == "negative"


def test_options_out_of_range_are_refused():
    with pytest.raises(UsageError, match="limit"):
        load_domain("digits", limit=1)
    with pytest.raises(ConfigError, match="size"):
        load_domain("digits", image_size=2)
    with pytest.raises(DataError, match="has 10 classes, not 7"):
        load_domain("digits", classes=7)


@given(
    sizes=st.lists(st.integers(1, 30), min_size=2, max_size=6),
    fraction=st.floats(0.05, 0.5),
    seed=st.integers(0, 2**40),
)
@QUICK
def test_carving_loses_nothing_and_keeps_proportions(sizes, fraction, seed):
    labels = torch.cat([torch.full((size,), label) for label, size in enumerate(sizes)])
    part, rest = carve(labels, [fraction], torch.Generator().manual_seed(seed))
    assert sorted([*part.tolist(), *rest.tolist()]) == list(range(len(labels)))
    assert len(part) == min(len(labels), max(2, round(fraction * len(labels))))
    share = len(part) / len(labels)
    taken = labels[part].bincount(minlength=len(sizes))
    assert all(abs(int(t) - share * size) <= 1 + len(sizes) / 2 for t, size in zip(taken, sizes, strict=True))


@given(count=st.integers(2, 60), limit=st.integers(2, 80), seed=st.integers(0, 99))
@QUICK
def test_a_cap_is_a_stratified_sample(count, limit, seed):
    labels = torch.arange(count) % 2
    rows = cap(labels, limit, torch.Generator().manual_seed(seed))
    assert len(set(rows.tolist())) == min(count, limit)
    assert abs(int(labels[rows].sum()) - len(rows) / 2) <= 1
    order = stratified_order(labels, torch.Generator().manual_seed(seed))
    assert sorted(order.tolist()) == list(range(count))


def only_our_errors(call, *arguments, **options):
    try:
        return call(*arguments, **options)
    except FreeholdError as error:
        assert str(error)
        return None


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=20),
    st.lists(st.integers(-2, 2), max_size=3),
)


@given(
    uri=st.one_of(
        st.text(max_size=300),
        st.from_regex(r"(digits ?\|?|npz:|folder:|torchvision:).{0,20}", fullmatch=True),
    )
)
@QUICK
def test_any_text_loads_or_gives_one_of_our_errors(uri, tmp_path):
    only_our_errors(load_domain, uri, root=tmp_path, limit=10)


@given(name=st.sampled_from(sorted(SHIFTS)), value=ANYTHING)
@QUICK
def test_any_shift_value_works_or_gives_one_of_our_errors(name, value):
    shift = only_our_errors(parse_shift, f"{name}={value}")
    for field in SHIFTS[name].model_fields:
        only_our_errors(SHIFTS[name], **{field: value})
    if shift is not None:
        images = torch.arange(2 * 3 * 9 * 7).view(2, 3, 9, 7).to(torch.uint8)
        assert shift(images, torch.Generator().manual_seed(0)).shape == images.shape


@given(fields=st.dictionaries(st.sampled_from(["size", "channels", "mean", "std", "Size", "x"]), ANYTHING))
@QUICK
def test_any_input_spec_works_or_gives_one_of_our_errors(fields):
    spec = only_our_errors(InputSpec, **fields)
    if spec is not None:
        assert len(spec.mean) == len(spec.std) == spec.channels
        assert all(math.isfinite(value) for value in (*spec.mean, *spec.std))


GOOD = Split(torch.zeros(10, 1, 8, 8, dtype=torch.uint8), torch.arange(10))
TENSORS = st.builds(
    lambda shape, dtype, fill: torch.full(shape, fill, dtype=torch.float32).to(dtype),
    st.lists(st.integers(0, 4), max_size=5),
    st.sampled_from([torch.uint8, torch.int64, torch.int32, torch.float32, torch.bool]),
    st.integers(0, 3),
)


@given(
    images=st.one_of(TENSORS, ANYTHING), labels=st.one_of(TENSORS, ANYTHING), name=ANYTHING, classes=ANYTHING
)
@QUICK
def test_any_split_and_domain_stand_or_give_one_of_our_errors(images, labels, name, classes):
    split = only_our_errors(Split, images, labels)
    good = GOOD
    only_our_errors(Domain, name, classes, split, split, split)
    only_our_errors(Domain, name, tuple("0123456789"), good, good, good)
    only_our_errors(Domain, "x", classes, good, good, good)
    only_our_errors(Domain, "x", tuple("0123456789"), good, good, good, record=name)
