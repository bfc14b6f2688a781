from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from freehold.data.inputs import InputSpec
from freehold.errors import (
    ArtifactError,
    FreeholdError,
    MissingInputError,
    ModelError,
    OutputError,
    UsageError,
)
from freehold.models import (
    ConvNet,
    ModelSpec,
    Recipe,
    apply_mask_file,
    attach_masks,
    fuse_masks,
    load_checkpoint,
    load_model,
    maskable_weights,
    read_masks,
    save_checkpoint,
    state_hash,
)

CLASSES = tuple("0123456789")


def recipe_of(model: nn.Module, spec: ModelSpec | None = None, **spec_of_input: object) -> Recipe:
    return Recipe.of(model, spec, InputSpec(**spec_of_input), CLASSES)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    spec = ModelSpec(uri="convnet", num_classes=10, weights="/home/me/secret-name.safetensors")
    model = spec.build(load_weights=False)
    save_checkpoint(tmp_path / "run", model, recipe_of(model, spec))
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("uri", "dtype"),
    [("convnet", torch.float32), ("resnet20", torch.bfloat16), ("timm:vit_tiny_patch16_224", torch.float16)],
)
def test_saved_and_loaded_models_are_equal(tmp_path: Path, uri: str, dtype: torch.dtype) -> None:
    options = {"img_size": 32} if "vit" in uri else {}
    spec = ModelSpec(uri=uri, num_classes=10, options=options)
    model = spec.build().to(dtype).eval()
    save_checkpoint(tmp_path, nn.DataParallel(model), recipe_of(model, spec))
    loaded, recipe = load_checkpoint(tmp_path)
    images = torch.rand(2, 3, 32, 32).to(dtype)
    assert torch.equal(loaded(images), model(images))
    assert state_hash(loaded) == state_hash(model)
    assert not loaded.training
    assert recipe == recipe_of(model, spec)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.safetensors", "recipe.json"]


def test_the_file_is_a_plain_state_dict(saved: Path) -> None:
    ConvNet(10).load_state_dict(load_file(saved / "model.safetensors"), strict=True)


def test_nothing_of_the_owners_disk_is_written(saved: Path) -> None:
    for path in saved.iterdir():
        assert b"secret-name" not in path.read_bytes()


def test_layout_and_ties_survive(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = (
                nn.Conv2d(3, 3, 3, padding=1, bias=False),
                nn.Conv2d(3, 3, 3, padding=1, bias=False),
            )
            self.b.weight = self.a.weight
            self.head = nn.Linear(3, 10)
            self.register_buffer("scale", torch.tensor(2.0), persistent=False)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.head(self.b(self.a(images)).mean((2, 3)) * self.scale)

    model = Tied().to(memory_format=torch.channels_last).eval()
    original = {k: v.clone() for k, v in model.state_dict().items()}
    scores = attach_masks(model, list(maskable_weights(model)))
    with torch.no_grad():
        scores["a.weight"][0] = 0
    mask = read_masks(model)
    fuse_masks(model)
    save_checkpoint(tmp_path, model, recipe_of(model), mask=mask, mask_base=state_hash(original))
    loaded, _ = load_checkpoint(tmp_path, Tied())
    assert loaded.a.weight is loaded.b.weight
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(loaded(images), model.to(memory_format=torch.contiguous_format)(images))
    assert state_hash(apply_mask_file(tmp_path / "mask.safetensors", original)) == state_hash(model)


def test_a_given_architecture_is_copied_and_its_head_resized(tmp_path: Path) -> None:
    model = ConvNet(10)
    save_checkpoint(tmp_path, model, recipe_of(model))
    bare = ConvNet(1000)
    digest = state_hash(bare)
    loaded, _ = load_checkpoint(tmp_path, bare)
    assert state_hash(loaded) == state_hash(model)
    assert state_hash(bare) == digest
    with pytest.raises(ArtifactError, match="does not fit ResNet20"):
        load_checkpoint(tmp_path, load_model("resnet20", 10))
    with pytest.raises(UsageError, match="model="):
        load_checkpoint(tmp_path)


def test_a_recipe_runs_no_code(tmp_path: Path) -> None:
    model = ConvNet(10)
    spec = ModelSpec(uri="pathlib:Path.touch", num_classes=10, options={"self": str(tmp_path / "exploded")})
    save_checkpoint(tmp_path, model, recipe_of(model, spec))
    with pytest.raises(UsageError, match="owner's code"):
        load_checkpoint(tmp_path)
    assert not (tmp_path / "exploded").exists()


def test_recipes_describe_the_model_as_it_is() -> None:
    recipe = recipe_of(ConvNet(10))
    assert [(edit.name, edit.num_classes) for edit in recipe.edits] == [("head", 10)]
    with pytest.raises(ModelError, match="7 logits for 10 classes"):
        recipe_of(ConvNet(7))
    with pytest.raises(UsageError, match=r"model\.options"):
        spec = ModelSpec(uri="timm:resnet18", num_classes=10, options={"act_layer": nn.GELU})
        recipe_of(ConvNet(10), spec).to_json()


def test_a_masked_model_is_not_saved(tmp_path: Path) -> None:
    model = ConvNet(10)
    recipe = recipe_of(model)
    attach_masks(model, ["head.weight"])
    with pytest.raises(ModelError, match="fuse"):
        save_checkpoint(tmp_path, model, recipe)
    with pytest.raises(UsageError, match="mask_base"):
        save_checkpoint(tmp_path, ConvNet(10), recipe, mask={})
    assert not list(tmp_path.iterdir())


def test_every_truncation_and_bit_flip_is_noticed(saved: Path, tmp_path: Path) -> None:
    for name in ("model.safetensors", "recipe.json"):
        whole = (saved / name).read_bytes()
        places = [0, 9, 40, 200, len(whole) // 2, len(whole) - 1]
        for place in places:
            for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :]):
                copy = tmp_path / "copy"
                shutil.copytree(saved, copy, dirs_exist_ok=True)
                (copy / name).write_bytes(damaged)
                with pytest.raises(ArtifactError, match=r"recipe|safetensors"):
                    load_checkpoint(copy)


def test_parts_of_two_checkpoints_do_not_mix(saved: Path, tmp_path: Path) -> None:
    model = ConvNet(10)
    other = Recipe(model=ModelSpec(uri="convnet", num_classes=10), input=InputSpec(size=16), classes=CLASSES)
    save_checkpoint(tmp_path / "other", model, other)
    shutil.copy(tmp_path / "other" / "recipe.json", saved)
    with pytest.raises(ArtifactError, match="the recipe is not the one"):
        load_checkpoint(saved)


def test_missing_parts(saved: Path, tmp_path: Path) -> None:
    (saved / "model.safetensors").unlink()
    for directory in (saved, tmp_path / "nowhere"):
        with pytest.raises(MissingInputError):
            load_checkpoint(directory)


def test_weights_with_nan_are_refused(tmp_path: Path) -> None:
    model = ConvNet(10)
    recipe = recipe_of(model, ModelSpec(uri="convnet", num_classes=10))
    with torch.no_grad():
        model.head.bias[3] = float("nan")
    save_checkpoint(tmp_path, model, recipe)
    with pytest.raises(ArtifactError, match=r"NaN.*head\.bias"):
        load_checkpoint(tmp_path)


def _full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(("owner", "call"), [(Path, "replace"), (Path, "write_bytes")])
def test_a_full_disk_leaves_the_earlier_checkpoint(
    saved: Path, monkeypatch: pytest.MonkeyPatch, owner: type, call: str
) -> None:
    before = {p.name: p.read_bytes() for p in saved.iterdir()}
    model = ConvNet(10)
    recipe = recipe_of(model)
    with monkeypatch.context() as patch:
        patch.setattr(owner, call, _full)
        with pytest.raises(OutputError, match="space"):
            save_checkpoint(saved, model, recipe)
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == before


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(OutputError, match="file"):
        save_checkpoint(tmp_path / "file" / "run", ConvNet(10), recipe_of(ConvNet(10)))


class TestMask:
    @pytest.fixture
    def shipped(self, tmp_path: Path) -> tuple[Path, dict[str, torch.Tensor], nn.Module]:
        model = ConvNet(10)
        base = {k: v.clone() for k, v in model.state_dict().items()}
        scores = attach_masks(model, list(maskable_weights(model)))
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for value in scores.values():
                value.mul_(torch.rand(value.shape, generator=generator) > 0.2)
        mask = read_masks(model)
        fuse_masks(model)
        save_checkpoint(tmp_path, model, recipe_of(model), mask=mask, mask_base=state_hash(base))
        return tmp_path / "mask.safetensors", base, model

    def test_mask_and_original_weights_give_the_shipped_model_exactly(self, shipped) -> None:
        path, base, model = shipped
        rebuilt = apply_mask_file(path, base)
        assert state_hash(rebuilt) == state_hash(model)
        weights = sum(v.numel() for v in maskable_weights(model).values())
        assert path.stat().st_size < weights / 8 + 10_000

    def test_other_weights_are_refused(self, shipped) -> None:
        path, base, _ = shipped
        base["head.bias"] = base["head.bias"] + 1
        with pytest.raises(ArtifactError, match="other weights"):
            apply_mask_file(path, base)

    def test_damage_is_noticed(self, shipped) -> None:
        path, base, _ = shipped
        whole = path.read_bytes()
        for damaged in (whole[:100], whole[:-1], whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]):
            path.write_bytes(damaged)
            with pytest.raises(ArtifactError):
                apply_mask_file(path, base)

    @pytest.mark.parametrize(
        "change",
        [
            {"format": "freehold-mask-9"},
            {"shapes": "{"},
            {"shapes": "{}"},
            {"shapes": json.dumps({"head.weight": [-1, 5]})},
            {"result": "0"},
        ],
    )
    def test_forged_metadata_are_refused(self, shipped, change: dict[str, str]) -> None:
        path, base, _ = shipped
        with safe_open(path, "pt") as file:
            facts = {**file.metadata(), **change}
        save_file(load_file(path), path, facts)
        with pytest.raises(ArtifactError):
            apply_mask_file(path, base)

    def test_a_later_save_without_mask_removes_it(self, shipped) -> None:
        path, _, model = shipped
        save_checkpoint(path.parent, model, recipe_of(model))
        assert not path.exists()
        with pytest.raises(MissingInputError):
            apply_mask_file(path, {})

    def test_another_safetensors_file_is_no_mask(self, shipped) -> None:
        path, base, _ = shipped
        with pytest.raises(ArtifactError, match="not a mask"):
            apply_mask_file(path.with_name("model.safetensors"), base)


def test_all_errors_are_ours(saved: Path) -> None:
    loaders: list[Callable[[], object]] = [
        lambda: load_checkpoint(saved / "model.safetensors"),
        lambda: apply_mask_file(saved, {}),
    ]
    for load in loaders:
        with pytest.raises(FreeholdError):
            load()
