"""Pretrained encoders: the trunk of a classifier from weights that were saved under other names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from freehold.errors import ModelError


def fit_encoder(model: nn.Module, state: Mapping[str, Tensor], *, where: str) -> tuple[str, ...]:
    """Load all of ``model`` but its last linear layer from ``state``, in place.

    Self-supervised checkpoints keep the encoder under a prefix (``module.encoder_q.``, ``backbone.``)
    beside a projector, a queue or a second, slower encoder. The prefix under which most of the model's
    tensors are found, with their shapes, is taken; everything else in the file is left out.

    Args:
        model: a classifier with a linear head, which keeps the weights it has.
        state: tensors by name.
        where: the file, for messages.

    Returns:
        The names in ``state`` that were not used.

    Raises:
        ModelError: the file lacks a tensor of the trunk, or holds it in another shape.
    """
    wanted = model.state_dict()
    prefix = _prefix(wanted, state)
    fitting = {
        name: state[prefix + name]
        for name, tensor in wanted.items()
        if prefix + name in state and state[prefix + name].shape == tensor.shape
    }
    lacking = [name for name in wanted if name not in fitting and not name.endswith("num_batches_tracked")]
    layers = {name.rpartition(".")[0] for name in lacking}
    last = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1:]
    if not fitting or layers - set(last):
        first = next((name for name in lacking if name.rpartition(".")[0] not in last), "")
        raise ModelError(
            f"holds no encoder for this model: {first or 'every tensor'} is missing or of another shape",
            where=where,
            fix="give the architecture that was pretrained",
        )
    used = {name for name in fitting if name.rpartition(".")[0] not in last}
    with torch.no_grad():
        for name in used:
            wanted[name].copy_(fitting[name])
    return tuple(name for name in state if name.removeprefix(prefix) not in used)


def _prefix(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """What stands before the model's own names most often; of equals the one that comes first."""
    found: Counter[str] = Counter()
    ends: dict[str, list[str]] = {}
    for name in state:
        ends.setdefault(name.rpartition(".")[2], []).append(name)
    for name, tensor in wanted.items():
        for candidate in ends.get(name.rpartition(".")[2], ()):
            prefix = candidate.removesuffix(name)
            fits = candidate.endswith(name) and (not prefix or prefix.endswith("."))
            if fits and state[candidate].shape == tensor.shape:
                found[prefix] += 1
    return found.most_common(1)[0][0] if found else ""
