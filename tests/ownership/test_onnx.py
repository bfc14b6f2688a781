from __future__ import annotations

import sys

import pytest
import torch
from kit import Small
from torch import nn

from freehold.data import InputSpec
from freehold.errors import ArtifactError, MissingDependencyError, MissingInputError, ModelError, UsageError
from freehold.ownership.suspect import suspect
from freehold.plugin import Access

SPEC = InputSpec(size=16)
IMAGES = torch.randint(0, 256, (10, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_without_onnxruntime_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError, match=r"freehold\[onnx\]"):
        suspect(tmp_path / "model.onnx", input=SPEC)


@pytest.fixture
def exported(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")

    def export(model: nn.Module, shape=(2, 3, 16, 16), *, fixed=False):
        path = tmp_path / "model.onnx"
        free = None if fixed else ({0: torch.export.Dim("n")},)
        torch.onnx.export(
            model.eval(), (torch.zeros(shape),), path, dynamo=True, dynamic_shapes=free, verbose=False
        )
        return path

    return export


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("softmax", [False, True])
def test_an_exported_network_answers_as_the_network(exported, fixed, softmax):
    model = nn.Sequential(Small(), nn.Softmax(1)) if softmax else Small()
    asked = suspect(exported(model, fixed=fixed), input=SPEC, num_classes=10)
    own = suspect(Small(), input=SPEC)
    assert torch.allclose(asked.probabilities(IMAGES), own.probabilities(IMAGES), atol=1e-5)
    assert torch.equal(asked.labels(IMAGES), own.labels(IMAGES))
    assert asked.access == Access.PROBABILITIES and asked.queries == 20


def test_wrong_signatures_are_refused(exported):
    path = exported(Small())
    with pytest.raises(ModelError, match="takes"):
        suspect(path, input=InputSpec(size=16, channels=1))
    with pytest.raises(ModelError, match="10 classes apart, not 3"):
        suspect(path, input=SPEC, num_classes=3)
    with pytest.raises(UsageError):
        suspect(path, input=SPEC, access=Access.WEIGHTS)
    with pytest.raises(ModelError):
        suspect(exported(nn.Conv2d(3, 2, 3)), input=SPEC)
    with pytest.raises(ModelError):
        suspect(exported(nn.Linear(4, 2), (2, 4)), input=SPEC)


def test_files_that_are_no_model_are_refused(exported, tmp_path):
    with pytest.raises(MissingInputError):
        suspect(tmp_path / "none.onnx", input=SPEC)
    (tmp_path / "bad.onnx").write_bytes(b"not a graph")
    with pytest.raises(ArtifactError):
        suspect(tmp_path / "bad.onnx", input=SPEC)
