from __future__ import annotations

import math

import pytest
import torch
from kit import Small
from torch import nn

from freehold.data import InputSpec
from freehold.errors import ArtifactError, MissingInputError, ModelError, SuspectError, UsageError
from freehold.models.checkpoint import Recipe, save_checkpoint
from freehold.models.weights import state_hash
from freehold.models.zoo import ModelSpec, load_model
from freehold.ownership.suspect import CallableSuspect, ModuleSuspect, suspect
from freehold.plugin import Access

SPEC = InputSpec(size=16)
IMAGES = torch.randint(0, 256, (10, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_a_module_answers_as_it_would_in_use_and_stays_as_it_was():
    model = Small().train()
    model.features[1].eval()
    before = state_hash(model), [m.training for m in model.modules()]
    asked = suspect(model, input=SPEC)
    probabilities = asked.probabilities(IMAGES)
    expected = model.eval()((IMAGES.float() / 255 - 0.5) / 0.5).softmax(1)
    model.train()
    model.features[1].eval()
    assert torch.allclose(probabilities, expected, atol=1e-6)
    assert torch.equal(asked.labels(IMAGES), expected.argmax(1))
    assert (state_hash(model), [m.training for m in model.modules()]) == before
    assert asked.queries == 20 and asked.access == Access.WEIGHTS and asked.weights() is model


def test_access_is_what_was_declared():
    only_labels = suspect(Small(), input=SPEC, access=Access.LABELS)
    assert len(only_labels.labels(IMAGES)) == 10
    for refused in (lambda: only_labels.probabilities(IMAGES), only_labels.weights):
        with pytest.raises(UsageError):
            refused()
    assert Access.LABELS < Access.PROBABILITIES < Access.WEIGHTS
    with pytest.raises(UsageError, match="shows no weights"):
        suspect(lambda x: x, input=SPEC, num_classes=3, access=Access.WEIGHTS)


def test_images_are_brought_to_its_input_and_asked_in_batches():
    shapes = []

    def look(images):
        shapes.append(tuple(images.shape))
        return torch.zeros(len(images), dtype=torch.int64)

    asked = CallableSuspect(look, InputSpec(size=8, channels=1), 4)
    asked.batch = 4
    assert asked.labels(IMAGES).tolist() == [0] * 10
    assert shapes == [(4, 1, 8, 8), (4, 1, 8, 8), (2, 1, 8, 8)]


def test_queries_count_also_without_an_answer():
    asked = CallableSuspect(lambda images: 1 / 0, SPEC, 4)
    with pytest.raises(SuspectError, match="ZeroDivisionError"):
        asked.labels(IMAGES)
    assert asked.queries == 10


@pytest.mark.parametrize("scores", [torch.full((10, 4), -0.5), torch.zeros(10, dtype=torch.int64)])
def test_what_is_no_probability_is_not_taken_for_one(scores):
    asked = CallableSuspect(lambda images: scores, SPEC, 4, access=Access.PROBABILITIES)
    with pytest.raises(SuspectError, match="no probabilities"):
        asked.probabilities(IMAGES)


def test_a_network_that_turns_to_nan_is_no_suspect_that_answers():
    model = Small()
    asked = suspect(model, input=SPEC)
    model.head.bias.data[0] = math.nan
    with pytest.raises(SuspectError, match="NaN"):
        asked.labels(IMAGES)


def test_contracts_are_needed_and_checked():
    for target in (Small(), lambda x: x, "http://localhost/x"):
        with pytest.raises(UsageError, match="input"):
            suspect(target)
    for target in (lambda x: x, "http://localhost/x"):
        with pytest.raises(UsageError, match="classes"):
            suspect(target, input=SPEC)
    with pytest.raises(ModelError, match="10 classes apart, not 7"):
        suspect(Small(), input=SPEC, num_classes=7)
    with pytest.raises(ModelError):
        suspect(Small(), input=InputSpec(size=16, channels=1))
    with pytest.raises(UsageError, match="1 classes"):
        suspect(lambda x: x, input=SPEC, num_classes=1)
    with pytest.raises(UsageError, match="no suspect"):
        suspect(3, input=SPEC, num_classes=3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_answer(dtype):
    assert suspect(Small().to(dtype), input=SPEC).labels(IMAGES).shape == (10,)


def test_wrapped_modules_answer():
    assert isinstance(suspect(nn.DataParallel(Small()), input=SPEC), ModuleSuspect)


def test_a_saved_run_is_read_with_its_contract(tmp_path):
    model = load_model("convnet", 5)
    recipe = Recipe(model=ModelSpec(uri="convnet", num_classes=5), input=SPEC, classes=tuple("abcde"))
    save_checkpoint(tmp_path / "run", model, recipe)
    asked = suspect(tmp_path / "run")
    assert (asked.name, asked.num_classes, asked.input) == ("run", 5, SPEC)
    assert torch.equal(asked.labels(IMAGES), suspect(model, input=SPEC).labels(IMAGES))
    data = bytearray((tmp_path / "run" / "model.safetensors").read_bytes())
    data[-3] ^= 1
    (tmp_path / "run" / "model.safetensors").write_bytes(bytes(data))
    with pytest.raises(ArtifactError):
        suspect(tmp_path / "run")
    with pytest.raises(MissingInputError):
        suspect(tmp_path / "none")
