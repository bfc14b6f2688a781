from __future__ import annotations

import pytest
import torch

from freehold.data import Domain, Domains, InputSpec, Invert, Split
from freehold.errors import ConfigError, DataError, UsageError


@pytest.mark.parametrize(
    ("images", "labels", "told"),
    [
        (torch.zeros(2, 3, 4, 4), torch.tensor([0, 1]), "images: expected uint8"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.int64), torch.tensor([0, 1]), "images: expected uint8"),
        (torch.zeros(2, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]), "images: expected uint8"),
        (torch.zeros(2, 2, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]), "C 1 or 3"),
        (torch.zeros(2, 3, 0, 4, dtype=torch.uint8), torch.tensor([0, 1]), "images: expected uint8"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0.0, 1.0]), "labels: expected int64"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([[0], [1]]), "labels: expected int64"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1, 1]), "3 labels for 2 images"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, -1]), "label -1 is negative"),
        (torch.zeros(0, 3, 4, 4, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64), "empty"),
        ([[0]], torch.tensor([0, 1]), "images: expected a torch tensor, got list"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), None, "labels: expected a torch tensor"),
    ],
)
def test_a_split_names_what_does_not_fit(images, labels, told):
    with pytest.raises(DataError, match=told):
        Split(images, labels)


def test_take_keeps_images_with_their_labels(split):
    whole = split()
    part = whole.take(torch.tensor([5, 2, 5]))
    assert len(part) == 3
    assert part.labels.tolist() == [1, 2, 1]
    assert torch.equal(part.images[1], whole.images[2])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": ""}, "needs a name"),
        ({"name": 3}, "needs a name"),
        ({"classes": ("a",)}, "two or more classes"),
        ({"classes": ("a", "b", "a", "c")}, "occurs twice"),
        ({"classes": ("a", 2, "b", "c")}, "two or more classes"),
        ({"classes": ("a", "b", "c")}, "train: label 3 but only 3 classes"),
        ({"val": None}, "val: expected a Split, got NoneType"),
        ({"record": {"at": object()}}, "record is not JSON-able"),
        ({"record": {"at": float("nan")}}, "record is not JSON-able"),
    ],
)
def test_a_domain_names_what_does_not_fit(domain, changes, told):
    good = domain()
    fields = {"name": good.name, "classes": good.classes, "record": {}, **good.splits()}
    with pytest.raises(DataError, match=told):
        Domain(**{**fields, **changes})


def test_a_domain_refuses_one_class_and_mixed_shapes(domain, split):
    good = domain()
    images = good.test.images
    with pytest.raises(DataError, match=r"toy: test: all 20 labels are of class 2 .*two classes"):
        good.with_splits(good.splits() | {"test": Split(images, torch.full((20,), 2))})
    with pytest.raises(DataError, match=r"val: images are \(1, 8, 8\) but those of train are \(3, 8, 8\)"):
        good.with_splits(good.splits() | {"val": split(channels=1)})


def test_a_domain_records_sizes_and_takes_any_text_as_name(domain):
    made = domain(name="<script>alert(1)</script>")
    assert made.name == "<script>alert(1)</script>"
    assert made.num_classes == 4
    assert made.record == {"sizes": {"train": 20, "val": 20, "test": 20}, "image_shape": [3, 8, 8]}


def test_domains_accept_a_list_and_keep_the_order(domain):
    given = Domains(authorized=domain("a"), unauthorized=[domain("b"), domain("c")])
    assert isinstance(given.unauthorized, tuple)
    assert [d.name for d in given.all()] == ["a", "b", "c"]
    assert given.num_classes == 4
    assert Domains(unauthorized=domain("b")).all()[0].name == "b"


def test_domains_name_the_two_and_the_first_difference(domain):
    cats = domain("cats", classes=("a", "b", "c", "d"))
    dogs = domain("dogs", classes=("a", "c", "b", "d"))
    assert "'cats' and 'dogs': class 1 is 'b' in one, 'c' in the other" in str(
        Domains(cats, [dogs]).mismatch()
    )
    more = domain("more", classes=("a", "b", "c", "d", "e"))
    assert "'cats' and 'more': 4 classes against 5" in str(Domains(cats, [more]).mismatch())
    same = domain("same", classes=cats.classes)
    both = Domains(cats, [more, same])
    assert both.comparable().all() == (cats, same)
    assert Domains(cats, [same]).mismatch() is None


def test_domains_refuse_nothing_repeats_and_strangers(domain):
    assert Domains().all() == () and Domains().comparable().mismatch() is None
    with pytest.raises(DataError, match="no domain given"):
        _ = Domains().num_classes
    with pytest.raises(DataError, match="two domains are called 'a'"):
        Domains(domain("a"), [domain("a")])
    for strange in (5, "mnist", ["mnist"], [None]):
        with pytest.raises(DataError, match="expected a"):
            Domains(domain("a"), strange)
    with pytest.raises(DataError, match="expected an InputSpec, got dict"):
        Domains(domain("a"), input={"size": 32})


def test_shifted_is_a_domain_with_its_own_name_record_and_streams(domain):
    base = domain()
    turned = base.shifted(Invert(), Invert())
    assert turned.name == "toy+invert+invert"
    assert all(torch.equal(turned.splits()[k].images, s.images) for k, s in base.splits().items())
    once = base.shifted(Invert(), seed=7, name="negative")
    assert once.name == "negative"
    assert torch.equal(once.test.images, 255 - base.test.images)
    assert torch.equal(once.test.labels, base.test.labels)
    assert once.shifted(Invert()).record["shifts"] == [
        {"shift": "invert", "seed": 7},
        {"shift": "invert", "seed": 0},
    ]
    with pytest.raises(UsageError, match="no shift given"):
        base.shifted()


def test_input_spec_spreads_single_numbers():
    assert InputSpec() == InputSpec(size=(32, 32), channels=3, mean=(0.5,) * 3, std=(0.5,) * 3)
    grey = InputSpec(size=28, channels=1, mean=0.1307, std=[0.3081])
    assert (grey.size, grey.mean, grey.std) == ((28, 28), (0.1307,), (0.3081,))
    assert InputSpec(channels=1).mean == (0.5,)
    assert InputSpec.model_validate_json(grey.model_dump_json()) == grey


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"size": 3}, "InputSpec.size: sides must be 4..4096 pixels"),
        ({"size": (32, 5000)}, "4..4096"),
        ({"channels": 2}, "InputSpec.channels"),
        ({"mean": (0.5, 0.5)}, "mean has 2 values for 3 channels"),
        ({"mean": 1.5}, r"mean must lie in \[0, 1\]"),
        ({"mean": 128}, r"mean must lie in \[0, 1\]"),
        ({"std": 0}, r"std must lie in \(0, 1\]"),
        ({"std": float("nan")}, "finite"),
        ({"sise": 32}, r"InputSpec.sise: unknown key \(did you mean 'size'\?\)"),
    ],
)
def test_input_spec_says_what_is_out_of_range(fields, told):
    with pytest.raises(ConfigError, match=told):
        InputSpec(**fields)
