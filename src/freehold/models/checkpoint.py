"""A protected model on disk: weights, the recipe that rebuilds its architecture, and its packed mask.

``model.safetensors`` is a plain state dict that any PyTorch code can load. Its metadata carry the hash of
the tensors and of ``recipe.json``, so that an altered or mixed-up directory is noticed. ``mask.safetensors``
holds one bit a weight and the hash of the weights it belongs to.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from safetensors.torch import save
from torch import Tensor, nn

from freehold.artifacts.files import sync, writing
from freehold.errors import ArtifactError, FreeholdError, MissingInputError, ModelError, UsageError
from freehold.models.layers import apply_mask, pack_masks, unpack_masks
from freehold.models.recipe import RECIPE, AttachBranch, Edit, Recipe, ResizeHead
from freehold.models.weights import fit_weights, load_weights, read_safetensors, state_hash, unwrap

__all__ = [
    "MASK",
    "MODEL",
    "RECIPE",
    "AttachBranch",
    "Edit",
    "Recipe",
    "ResizeHead",
    "apply_mask_file",
    "load_checkpoint",
    "load_weights",
    "save_checkpoint",
    "state_hash",
]

MODEL, MASK = "model.safetensors", "mask.safetensors"

_MASK_FORMAT = "freehold-mask-1"
_SHAPES = TypeAdapter(dict[str, tuple[int, ...]])


def save_checkpoint(
    directory: str | Path,
    model: nn.Module,
    recipe: Recipe,
    *,
    mask: Mapping[str, Tensor] | None = None,
    mask_base: str | None = None,
) -> None:
    """Write ``model.safetensors``, ``recipe.json`` and, given a mask, ``mask.safetensors``.

    After an error, a full disk included, what stood there before still stands.

    Args:
        directory: created if need be; a mask of an earlier save is removed.
        model: plain module; wrappers for data parallel are taken off. Dtypes are kept.
        recipe: must rebuild the model's architecture.
        mask: bool tensors by parameter name, from :func:`~freehold.models.layers.read_masks`.
        mask_base: :func:`~freehold.models.weights.state_hash` of the model before masking.

    Raises:
        OutputError: the directory cannot be made or written.
        ModelError: masks are still attached, or the state holds more than tensors.
        UsageError: a mask without the hash of its base, or the recipe does not fit JSON.
    """
    if (mask is None) != (mask_base is None):
        raise UsageError("a mask is stored with the hash of the weights it belongs to", where="mask_base")
    model = unwrap(model)
    tied = _tied_names(model)
    state = model.state_dict()
    if any(".parametrizations." in f".{name}" for name in state):
        raise ModelError("parametrizations are still attached", where="model", fix="fuse the masks first")
    described, digest = recipe.to_json(), state_hash(state)
    about = {"format": "pt", "state": digest, "recipe": hashlib.sha256(described).hexdigest()}
    files = {MODEL: save(_apart(state), about), RECIPE: described}
    if mask is not None and mask_base is not None:
        every = {name: bits for first, bits in mask.items() for name in tied.get(first, [first])}
        shapes = json.dumps({name: tuple(bits.shape) for name, bits in every.items()})
        facts = {"format": _MASK_FORMAT, "base": mask_base, "result": digest, "shapes": shapes}
        files[MASK] = save(pack_masks(every), facts)
    _write_together(Path(directory), files)


def load_checkpoint(directory: str | Path, model: nn.Module | None = None) -> tuple[nn.Module, Recipe]:
    """Rebuild a saved model: bare architecture, edits replayed, weights loaded strictly; evaluation mode.

    Args:
        directory: written by :func:`save_checkpoint`.
        model: the bare architecture, copied and not changed; by default built from the recipe.
            Needed where the recipe names the owner's code, which a file may not make us run.

    Raises:
        MissingInputError: the directory or one of its files is not there.
        ArtifactError: a file is truncated, altered or from another checkpoint, or the weights do not fit.
        UsageError: the recipe cannot build the model without the owner's code.
    """
    directory = Path(directory)
    try:
        described = (directory / RECIPE).read_bytes()
    except OSError as error:
        raise MissingInputError(
            f"cannot read the recipe: {error.strerror}", where=str(directory / RECIPE), fix="check the path"
        ) from error
    recipe = Recipe.from_json(described, where=str(directory / RECIPE))
    path = directory / MODEL
    state, about = read_safetensors(path)
    for part, digest in (("state", state_hash(state)), ("recipe", hashlib.sha256(described).hexdigest())):
        if about.get(part) != digest:
            raise ArtifactError(
                f"the {part} is not the one that was saved here",
                where=str(path),
                fix="copy the whole directory again",
            )
    model = _bare(recipe) if model is None else deepcopy(unwrap(model))
    try:
        for edit in recipe.edits:
            model = edit.apply(model)
    except FreeholdError as error:
        raise ArtifactError(
            f"the recipe does not fit {type(model).__name__}: {error}", where=str(directory / RECIPE)
        ) from error
    fit_weights(model, state, where=str(path), keep_dtype=True, error=ArtifactError)
    return model.eval(), recipe


def apply_mask_file(path: str | Path, base_state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The shipped state dict, byte for byte, from the original weights and a ``mask.safetensors``.

    Raises:
        MissingInputError: there is no such file.
        ArtifactError: it is damaged, not a mask, or belongs to other weights.
    """
    path = Path(path)
    packed, about = read_safetensors(path)
    if about.get("format") != _MASK_FORMAT:
        raise ArtifactError("not a mask that this version reads", where=str(path))
    if about.get("base") != state_hash(base_state):
        raise ArtifactError(
            "the mask belongs to other weights", where=str(path), fix="give the original model, unchanged"
        )
    try:
        masks = unpack_masks(packed, _SHAPES.validate_json(about.get("shapes", "")))
    except (ValidationError, FreeholdError) as error:
        raise ArtifactError(f"damaged: {error}", where=str(path)) from error
    state = dict(base_state)
    for name, mask in masks.items():
        if name not in state or state[name].shape != mask.shape:
            raise ArtifactError("the mask does not fit the weights", where=f"{path}: {name}")
        state[name] = apply_mask(state[name], mask.to(state[name].device))
    if state_hash(state) != about.get("result"):
        raise ArtifactError("damaged: the rebuilt model is not the one that was shipped", where=str(path))
    return state


def _bare(recipe: Recipe) -> nn.Module:
    if recipe.model is None or recipe.model.runs_code:
        raise UsageError(
            "this model can only be built by its owner's code",
            where=recipe.model.uri if recipe.model else RECIPE,
            fix="build the bare architecture yourself and pass it as model=",
        )
    return recipe.model.build(load_weights=False)


def _tied_names(model: nn.Module) -> dict[str, list[str]]:
    """Each parameter's name to all names of the same parameter."""
    groups: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), []).append(name)
    return {name: names for names in groups.values() for name in names}


def _apart(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU tensors that share no memory, as the format demands; only tied ones are copied."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in state.items():
        flat = tensor.detach().cpu().contiguous()
        place = flat.untyped_storage().data_ptr()
        apart[name] = flat.clone() if place in seen else flat
        seen.add(place)
    return apart


def _write_together(directory: Path, files: Mapping[str, bytes]) -> None:
    """All files, or on an error none: each is on disk under a passing name before the first is renamed."""
    passing = {name: directory / f"{name}.tmp" for name in files}
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        try:
            for name, data in files.items():
                passing[name].write_bytes(data)
                sync(passing[name])
            for name, path in passing.items():
                path.replace(directory / name)
            if MASK not in files:
                (directory / MASK).unlink(missing_ok=True)
            sync(directory)
        finally:
            for path in passing.values():
                with suppress(OSError):
                    path.unlink()
