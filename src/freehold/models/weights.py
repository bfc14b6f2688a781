"""State dicts: read from files, checked, hashed, and fitted into a model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from freehold.errors import ArtifactError, FreeholdError, MissingInputError, ModelError, UsageError

_PICKLES = (".pt", ".pth", ".bin", ".ckpt")
_WRAPPERS = ("module.", "_orig_mod.")  # what data parallel and torch.compile put before each key


def state_hash(source: nn.Module | Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) over name, dtype, shape and bytes of each tensor, sorted by name.

    Equal for equal weights on any device and in any memory layout.

    Raises:
        ModelError: the state holds something other than tensors.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(_tensors(source).items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_weights(path: str | Path, *, allow_pickle: bool = False) -> dict[str, Tensor]:
    """A state dict, on CPU, from ``.safetensors``, or from a pickle checkpoint where that is allowed.

    A pickle is read with ``weights_only=True``; a dict under its ``state_dict`` or ``model`` is taken.

    Args:
        path: the file.
        allow_pickle: accept ``.pt``, ``.pth``, ``.bin`` and ``.ckpt``.

    Raises:
        MissingInputError: there is no such file, or no permission to read it.
        UsageError: a pickle without ``allow_pickle``, or an unknown ending.
        ArtifactError: the file is truncated, altered or holds more than tensors.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return read_safetensors(path)[0]
    if path.suffix not in _PICKLES:
        known = ", ".join((".safetensors", *_PICKLES))
        raise UsageError(f"unknown kind of weights file {path.suffix!r}", where=str(path), fix=f"use {known}")
    if not allow_pickle:
        raise UsageError(
            "pickle files can hold code and are not read unless asked for",
            where=str(path),
            fix="convert it to .safetensors, or set allow_pickle if you trust its source",
        )
    _require_file(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        raise ArtifactError(
            "cannot be read as a checkpoint of tensors: truncated, or it holds other objects",
            where=str(path),
            fix="save it again with torch.save(model.state_dict(), ...)",
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping):
        raise ArtifactError(f"expected a state dict, found a {type(found).__name__}", where=str(path))
    return _tensors(found, where=str(path), error=ArtifactError)


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        MissingInputError: there is no such file, or no permission to read it.
        ArtifactError: the file is truncated or not in this format.
    """
    _require_file(path)
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise ArtifactError(
            f"not a whole safetensors file: {error}", where=str(path), fix="copy or write it again"
        ) from error


def fit_weights(
    model: nn.Module,
    state: Mapping[str, Tensor],
    *,
    where: str,
    keep_dtype: bool = False,
    error: type[FreeholdError] = ModelError,
) -> None:
    """Load ``state`` into ``model`` strictly, after checking all of it; nothing is loaded if it does not fit.

    Args:
        model: changed in place.
        state: tensors by key; a ``module.`` that stands before every key is dropped. Batch norm's counters
            may be absent, as in files from before torch had them.
        where: file or argument that the error names.
        keep_dtype: turn the model's floating point tensors to the state's types (bf16 stays bf16)
            rather than the state's to the model's.
        error: class that is raised.

    Raises:
        ModelError: (or ``error``) keys are missing or left over, shapes differ, values are NaN or infinite.
    """
    own = _tensors(model)
    for prefix in _WRAPPERS:
        if state and all(k.startswith(prefix) for k in state) and not any(k.startswith(prefix) for k in own):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    faults = [
        ("missing", [n for n in own if n not in state and not n.endswith("num_batches_tracked")]),
        ("unexpected", [name for name in state if name not in own]),
        ("of another shape or kind", [n for n, t in state.items() if n in own and not _alike(t, own[n])]),
        ("with NaN or infinite values", [name for name, tensor in state.items() if not _finite(tensor)]),
    ]
    found = "; ".join(f"{len(names)} {kind} ({_first(names)})" for kind, names in faults if names)
    if found:
        raise error(
            f"the weights do not fit {type(model).__name__}: {found}",
            where=where,
            fix="check architecture, number of classes and channels",
        )
    if keep_dtype:
        holders = [
            *model.named_parameters(remove_duplicate=False),
            *model.named_buffers(remove_duplicate=False),
        ]
        for name, tensor in holders:
            if name in state and tensor.dtype != state[name].dtype:
                tensor.data = tensor.data.to(state[name].dtype)
    model.load_state_dict(state, strict=True)


def unwrap(model: nn.Module) -> nn.Module:
    """The user's module inside data parallel and ``torch.compile`` wrappers."""
    while isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        model = model.module
    inner = getattr(model, "_orig_mod", None)
    return unwrap(inner) if isinstance(inner, nn.Module) else model


def _tensors(
    source: nn.Module | Mapping[str, Any], *, where: str = "state", error: type[FreeholdError] = ModelError
) -> dict[str, Tensor]:
    state = source.state_dict() if isinstance(source, nn.Module) else source
    odd = [str(name) for name, value in state.items() if not isinstance(value, Tensor)]
    if odd:
        raise error(f"{len(odd)} entries are not tensors ({_first(odd)})", where=where)
    return {str(name): value for name, value in state.items()}


def _alike(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.is_floating_point() == other.is_floating_point()


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def _first(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise MissingInputError("there is no such file", where=str(path), fix="check the path")
    try:
        path.open("rb").close()
    except OSError as error:
        raise MissingInputError(f"cannot be read: {error.strerror}", where=str(path)) from error
