from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.data.inputs import InputSpec
from freehold.errors import ArtifactError, FreeholdError
from freehold.models import ModelSpec, Recipe, ResizeHead

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-9, 9) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
specs = st.builds(
    ModelSpec,
    uri=names,
    num_classes=st.integers(2, 1000),
    channels=st.sampled_from([1, 3]),
    options=st.dictionaries(names, plain, max_size=3),
)
recipes = st.builds(
    Recipe,
    model=st.none() | specs,
    input=st.builds(InputSpec, size=st.tuples(st.integers(8, 512), st.integers(8, 512))),
    classes=st.lists(names, min_size=2, max_size=4).map(tuple),
    edits=st.lists(st.builds(ResizeHead, name=names, num_classes=st.integers(2, 9)), max_size=2).map(tuple),
)


@settings(deadline=None, max_examples=60)
@given(recipes)
def test_json_roundtrip(recipe: Recipe) -> None:
    assert Recipe.from_json(recipe.to_json()) == recipe


@settings(deadline=None, max_examples=150)
@given(recipes.map(Recipe.to_json), st.data())
def test_damaged_json_gives_our_error_or_a_recipe(text: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(text) - 1))
    damaged = text[:place] + data.draw(st.binary(max_size=3)) + text[place + data.draw(st.integers(0, 3)) :]
    try:
        Recipe.from_json(damaged)
    except FreeholdError as error:
        assert "recipe.json" in str(error)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=40) | plain.map(lambda value: json.dumps(value).encode()))
def test_what_is_no_recipe_is_refused(text: bytes) -> None:
    with pytest.raises(ArtifactError):
        Recipe.from_json(text)


def sound() -> dict[str, object]:
    recipe = Recipe(model=ModelSpec(uri="convnet", num_classes=2), input=InputSpec(), classes=("a", "b"))
    return json.loads(recipe.to_json())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "format"),
        ({"colour": "blue"}, "colour"),
        ({"classes": ["a"]}, "classes"),
        ({"edits": [{"kind": "run-code", "name": "x"}]}, "edits"),
        ({"model": {"uri": "convnet", "num_classes": 2, "pickle": True}}, r"model\.pickle"),
        ({"input": {"size": [0, 0]}}, "input"),
    ],
)
def test_what_this_version_does_not_know_is_refused(change: dict[str, object], said: str) -> None:
    Recipe.from_json(json.dumps(sound()).encode())
    with pytest.raises(ArtifactError, match=said):
        Recipe.from_json(json.dumps({**sound(), **change}).encode())


def test_deep_and_huge_files_are_refused() -> None:
    for text in (b"[" * 100_000, b" " * (2 << 20), b'{"a":' * 5000):
        with pytest.raises(ArtifactError):
            Recipe.from_json(text)


def test_where_the_weights_came_from_stays_private() -> None:
    spec = ModelSpec(uri="convnet", num_classes=2, weights="/home/me/w.pt", allow_pickle=True)
    recipe = Recipe(model=spec, input=InputSpec(), classes=("a", "b"))
    assert b"/home/me" not in recipe.to_json()
    assert spec.weights == "/home/me/w.pt"
