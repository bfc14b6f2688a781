from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from freehold.errors import ArtifactError, FreeholdError, MissingInputError, ModelError, UsageError
from freehold.models import ConvNet, fit_weights, load_model, load_weights, state_hash, unwrap


def test_hash_is_sha256_over_sorted_names_types_shapes_and_bytes() -> None:
    state = {"b": torch.tensor([1, 2], dtype=torch.int16), "a": torch.tensor(0.5)}
    text = b"a\0torch.float32\0()\0" + b"\0\0\0\x3f" + b"b\0torch.int16\0(2,)\0" + b"\1\0\2\0"
    assert state_hash(state) == hashlib.sha256(text).hexdigest()


def test_hash_sees_values_and_names_but_not_layout_order_or_wrapping() -> None:
    model = ConvNet(10)
    digest = state_hash(model)
    assert state_hash(dict(reversed(model.state_dict().items()))) == digest
    assert state_hash(ConvNet(10)) != digest
    assert state_hash(unwrap(nn.DataParallel(model))) == digest
    assert state_hash(model.to(memory_format=torch.channels_last)) == digest
    assert state_hash({k + "x": v for k, v in model.state_dict().items()}) != digest
    assert state_hash(model.to(torch.bfloat16)) != digest
    with torch.no_grad():
        model.head.bias[0] = torch.nextafter(model.head.bias[0].float(), torch.tensor(9.0)) + 1
    assert state_hash(model) != digest


def test_safetensors_and_allowed_pickles_give_the_same_model(tmp_path: Path) -> None:
    model = ConvNet(10)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    torch.save(model.state_dict(), tmp_path / "w.pt")
    torch.save({"epoch": 3, "state_dict": nn.DataParallel(model).state_dict()}, tmp_path / "w.pth")
    for name in ("w.safetensors", "w.pt", "w.pth"):
        loaded = load_model("convnet", 10, tmp_path / name, allow_pickle=True)
        assert state_hash(loaded) == state_hash(model)


def test_pickles_are_not_read_unless_asked_for(tmp_path: Path) -> None:
    torch.save(ConvNet(10).state_dict(), tmp_path / "w.pt")
    with pytest.raises(UsageError, match=r"safetensors.*allow_pickle"):
        load_weights(tmp_path / "w.pt")


def test_no_pickle_runs_code(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "exploded",))  # type: ignore[return-value]

    torch.save({"w": torch.ones(1), "bomb": Bomb()}, tmp_path / "w.pt")
    with pytest.raises(ArtifactError, match="other objects"):
        load_weights(tmp_path / "w.pt", allow_pickle=True)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("cut", [0, 4, 7, 8, 100, 5000, -1])
def test_truncated_files_are_noticed(tmp_path: Path, cut: int) -> None:
    save_file(ConvNet(10).state_dict(), tmp_path / "w.safetensors")
    whole = (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "w.safetensors").write_bytes(whole[:cut])
    with pytest.raises(ArtifactError, match=r"w\.safetensors"):
        load_weights(tmp_path / "w.safetensors")
    torch.save(ConvNet(10).state_dict(), tmp_path / "w.pt")
    whole = (tmp_path / "w.pt").read_bytes()
    (tmp_path / "w.pt").write_bytes(whole[:cut])
    with pytest.raises(ArtifactError, match=r"w\.pt"):
        load_weights(tmp_path / "w.pt", allow_pickle=True)


def test_missing_files_unknown_endings_and_other_contents(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="nowhere"):
        load_weights(tmp_path / "nowhere.safetensors")
    with pytest.raises(MissingInputError):
        load_weights(tmp_path / "nowhere.pt", allow_pickle=True)
    with pytest.raises(UsageError, match=r"\.onnx.*\.safetensors"):
        load_weights(tmp_path / "model.onnx")
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    torch.save({"weights": {"w": torch.ones(2)}}, tmp_path / "nested.pt")
    for name in ("list.pt", "nested.pt"):
        with pytest.raises(ArtifactError, match=name):
            load_weights(tmp_path / name, allow_pickle=True)
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(MissingInputError):
        load_weights(tmp_path / "folder.safetensors")


def broken(kind: str) -> dict[str, torch.Tensor]:
    state = ConvNet(10).state_dict()
    if kind == "missing":
        del state["head.bias"]
    elif kind == "unexpected":
        state["neck.weight"] = torch.ones(1)
    elif kind == "of another shape":
        state["head.weight"] = torch.zeros(11, 256)
    elif kind == "or kind":
        state["head.bias"] = torch.zeros(10, dtype=torch.int64)
    elif kind == "NaN":
        state["head.bias"] = torch.tensor([float("nan")] * 10)
    elif kind == "infinite":
        state["features.1.running_var"] = torch.full((32,), float("inf"))
    return dict(state)


@pytest.mark.parametrize("kind", ["missing", "unexpected", "of another shape", "or kind", "NaN", "infinite"])
def test_weights_that_do_not_fit_are_named_and_nothing_is_loaded(kind: str) -> None:
    model = ConvNet(10)
    digest = state_hash(model)
    with pytest.raises(ModelError, match=rf"here\.safetensors: .*{kind}.*(head|neck|running_var)"):
        fit_weights(model, broken(kind), where="here.safetensors")
    assert state_hash(model) == digest


def test_all_faults_are_told_at_once_and_long_lists_are_cut() -> None:
    with pytest.raises(
        ModelError, match=r"missing \(conv1.weight, bn1.weight, bn1.bias, \.\.\.\).*unexpected"
    ):
        fit_weights(load_model("resnet20", 10), ConvNet(10).state_dict(), where="weights")


def test_precision_follows_the_model_or_the_file() -> None:
    half = {k: v.bfloat16() if v.is_floating_point() else v for k, v in ConvNet(10).state_dict().items()}
    model = ConvNet(10)
    fit_weights(model, half, where="w")
    assert model.head.weight.dtype == torch.float32
    fit_weights(model, half, where="w", keep_dtype=True)
    assert state_hash(model) == state_hash(half)


def test_a_state_with_other_objects_is_refused() -> None:
    class Extra(nn.Linear):
        def get_extra_state(self) -> str:
            return "secret"

    with pytest.raises(ModelError, match="not tensors"):
        state_hash(Extra(2, 2))
    assert issubclass(ModelError, FreeholdError)
