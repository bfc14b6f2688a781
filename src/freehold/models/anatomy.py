"""What a model is made of, found by looking at it: head, normalisation layers, maskable weights.

Everything here reads the module graph or watches one dry run. The dry run happens in evaluation mode
and leaves no trace: training modes and hooks are as before, also when the model itself crashes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from freehold.errors import ModelError, UsageError

_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


def find_head(model: nn.Module, example: Tensor) -> str:
    """Dotted name of the classifier: the last ``nn.Linear`` that a forward pass calls.

    Args:
        model: any classifier; not changed.
        example: ``(B, C, H, W)`` float images as the model takes them; moved to its device and dtype.

    Raises:
        ModelError: the model cannot process the example, gives no ``(B, K)`` logits, or does not end
            in a linear layer with K outputs.
    """
    called: list[str] = []
    with ExitStack() as hooks:
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear):
                handle = module.register_forward_hook(lambda *_, name=name: called.append(name))
                hooks.callback(handle.remove)
        logits = dry_run(model, example)
    head = model.get_submodule(called[-1]) if called else None
    if not isinstance(head, nn.Linear) or head.out_features != logits.shape[1]:
        raise ModelError(
            "the model does not end in a linear layer that gives its logits",
            where=type(model).__name__,
            fix="end it in an nn.Linear; a 1x1 convolution can be written as one after pooling",
        )
    return called[-1]


def dry_run(model: nn.Module, example: Tensor) -> Tensor:
    """The model's ``(B, K)`` logits of ``example`` in evaluation mode, checked.

    Differentiable only where the caller enabled gradients and the example asks for them.

    Raises:
        ModelError: the forward pass fails, or its result is not one float tensor ``(B, K)``, K ≥ 2.
    """
    weight = next((p for p in model.parameters() if p.is_floating_point()), None)
    if weight is not None:
        example = example.to(weight.device, weight.dtype)
    with evaluating(model), torch.set_grad_enabled(example.requires_grad):
        try:
            logits = model(example)
        except Exception as error:
            raise ModelError(
                f"the model fails on an input of shape {list(example.shape)}: {error}",
                where=type(model).__name__,
                fix="check the image size and the number of channels",
            ) from error
    if (
        not isinstance(logits, Tensor)
        or not logits.is_floating_point()
        or logits.dim() != 2
        or logits.shape[0] != example.shape[0]
        or logits.shape[1] < 2
    ):
        got = f"shape {list(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise ModelError(
            f"the model must give logits of shape ({example.shape[0]}, classes), and gave {got}",
            where=type(model).__name__,
            fix="wrap it so that forward returns one logit a class",
        )
    return logits


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a block; afterwards each module has its own training flag back."""
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training


class Tap:
    """Keeps the tensor that last went into or came out of a module, while the ``with`` block lasts.

    >>> model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    >>> with Tap(model, "1", "input") as tap:
    ...     logits = model(torch.zeros(5, 4))
    >>> tap.value.shape
    torch.Size([5, 3])

    Args:
        model: the module that contains the tapped one; wrap it in data parallel outside the tap.
        name: dotted name of the tapped module.
        side: its first input or its output.

    Raises:
        UsageError: the model has no module of that name.
        ModelError: on reading ``value`` when the module was not called or passes no tensor.
    """

    def __init__(self, model: nn.Module, name: str, side: Literal["input", "output"]) -> None:
        self.name = name
        self.side = side
        self._module = submodule(model, name)
        self._handle: torch.utils.hooks.RemovableHandle | None = None
        self._value: object = None

    def __enter__(self) -> Self:
        if self.side == "input":
            self._handle = self._module.register_forward_pre_hook(self._keep_input, with_kwargs=True)
        else:
            self._handle = self._module.register_forward_hook(self._keep_output)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    @property
    def value(self) -> Tensor:
        """The tensor of the last forward pass, still part of its graph."""
        if not isinstance(self._value, Tensor):
            raise ModelError(f"no tensor was seen at the module's {self.side}", where=self.name)
        return self._value

    def _keep_input(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._value = next(iter([*args, *kwargs.values()]), None)

    def _keep_output(self, _: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._value = output


def submodule(model: nn.Module, name: str) -> nn.Module:
    """``model.get_submodule(name)`` with an error that names the nearest modules."""
    modules: dict[str, nn.Module] = dict(model.named_modules(remove_duplicate=False))
    if name not in modules:
        raise UsageError(
            f"the model has no module {name!r}", where=type(model).__name__, fix=closest(name, modules)
        )
    return modules[name]


def closest(name: str, options: Iterable[str]) -> str:
    """A hint with the few options nearest to ``name``; empty when none resembles it."""
    near = difflib.get_close_matches(name, list(options), n=3)
    return f"did you mean {' or '.join(near)}?" if near else ""


def resize_head(model: nn.Module, name: str, num_classes: int) -> None:
    """Give the linear layer ``name`` freshly drawn weights for ``num_classes`` outputs, in place.

    A head that has that many outputs already is left alone.

    Raises:
        UsageError: the model has no module of that name.
        ModelError: the module is not a linear layer.
    """
    head = submodule(model, name)
    if not isinstance(head, nn.Linear) or not name:
        raise ModelError(f"the head must be a linear layer, not {type(head).__name__}", where=name)
    if head.out_features != num_classes:
        weight = head.weight
        resized = nn.Linear(head.in_features, num_classes, head.bias is not None, weight.device, weight.dtype)
        path, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(path), attribute, resized.train(head.training))


def norm_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Normalisation layers by dotted name: torch's, and others that call themselves so and hold tensors."""
    return {name: module for name, module in model.named_modules() if _is_norm(module)}


def maskable_weights(model: nn.Module, exclude: Sequence[str] = ()) -> dict[str, nn.Parameter]:
    """Weights of all convolution and linear layers by parameter name; a tied weight once.

    Args:
        model: read only.
        exclude: shell patterns of parameter or layer names to leave out, e.g. ``"head*"``.

    Raises:
        UsageError: a pattern matches nothing, which would silently mask what should be spared.
        ModelError: the model has no such weight, or one of them is parametrized already.
    """
    weights: dict[str, nn.Parameter] = {}
    seen: set[int] = set()
    for layer, module in model.named_modules():
        attribute = _weight_attribute(module)
        if attribute is None:
            continue
        name = f"{layer}.{attribute}" if layer else attribute
        weight = getattr(module, attribute)
        if parametrize.is_parametrized(module, attribute) or not isinstance(weight, nn.Parameter):
            raise ModelError(
                "the weight is parametrized already",
                where=name,
                fix="remove its parametrization or weight norm first",
            )
        if id(weight) not in seen:
            weights[name] = weight
            seen.add(id(weight))
    if not weights:
        raise ModelError("the model has no convolution or linear layer", where=type(model).__name__)
    return {name: weight for name, weight in weights.items() if name not in _matches(weights, exclude)}


def _weight_attribute(module: nn.Module) -> str | None:
    if isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
        return "weight"
    if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
        return "in_proj_weight"
    return None


def _matches(names: Iterable[str], patterns: Sequence[str]) -> set[str]:
    """All names that a pattern matches, as a parameter or as its layer."""
    found: set[str] = set()
    for pattern in patterns:
        hits = {n for n in names if fnmatchcase(n, pattern) or fnmatchcase(n.rpartition(".")[0], pattern)}
        if not hits:
            near = closest(pattern, {part for n in names for part in (n, n.rpartition(".")[0])})
            raise UsageError(f"{pattern!r} matches no maskable weight", where="exclude", fix=near)
        found |= hits
    return found


def _is_norm(module: nn.Module) -> bool:
    if isinstance(module, _NORMS):
        return True
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return "norm" in type(module).__name__.lower() and bool(own)
