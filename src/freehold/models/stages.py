"""Where the trunk of a network can be cut: the ends of its stages.

A cut is a module whose output all of the computation runs through. One forward pass builds the autograd
graph, and a tensor is a cut if it lies on every path from the logits back to the image. So nothing inside
a residual branch is ever offered, however the model is written.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from freehold.errors import ModelError
from freehold.models.anatomy import dry_run, evaluating

_Shape = tuple[int, ...]


def stages(model: nn.Module, example: Tensor) -> tuple[str, ...]:
    """Dotted names of the modules whose outputs end the stages of the trunk, in order of execution.

    Convolutional trunks are cut where the resolution at least halves in area: behind a layer that pools,
    before a convolution or block that strides. Transformers are cut behind each residual block.

    * VGG: each pooling layer, ``features.2`` and so on; the ConvNet: three pools and the last activation;
    * ResNet: the stem where it pools, then ``layer1`` to ``layer4``;
    * ViT: ``blocks.0`` to the last block.

    Args:
        model: any classifier; not changed.
        example: ``(B, C, H, W)`` float images of the size that the model will see.

    Raises:
        ModelError: the model gives no logits, or no tensor but the last carries all of its computation.
    """
    calls = _watch(model, example)
    cuts = _cuts(calls)
    ends = _residual_blocks(calls, cuts) or _resolution_ends(cuts, _area(tuple(example.shape)))
    if not ends:
        raise ModelError(
            "found no place where the trunk can be cut into stages",
            where=type(model).__name__,
            fix="name the modules that end its stages yourself",
        )
    return tuple(_outermost(end, ends) for end in ends)


@dataclass(eq=False)
class _Call:
    """One call of a module: its name, what went in and what came out."""

    name: str
    module: nn.Module
    before: Tensor | None  # the first input
    shape: _Shape  # of the output, () where that is no tensor
    node: Any  # the output's autograd node
    on_path: bool = False  # all paths from image to logits run through the output


_Cut = list[_Call]  # nested modules that give one tensor, innermost first


def _watch(model: nn.Module, example: Tensor) -> list[_Call]:
    """All module calls of one differentiable dry run, in order of return."""
    calls: list[_Call] = []

    def watch(name: str, module: nn.Module) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            before = args[0].detach() if args and isinstance(args[0], Tensor) else None
            if isinstance(output, Tensor):
                calls.append(_Call(name, module, before, tuple(output.shape), output.grad_fn))
            else:
                calls.append(_Call(name, module, before, (), None))

        return module.register_forward_hook(hook)

    image = example.detach().clone().requires_grad_()
    with ExitStack() as hooks:
        for name, module in model.named_modules():
            hooks.callback(watch(name, module).remove)
        logits = dry_run(model, image)
    on_path = _bottlenecks(logits, image)
    times = Counter(call.name for call in calls)
    for call in calls:  # a module called twice is no place: a hook on it would fire twice
        call.on_path = call.node in on_path and times[call.name] == 1
    return calls


def _bottlenecks(logits: Tensor, image: Tensor) -> set[Any]:
    """Autograd nodes on every path from the logits to the image, found by counting paths."""
    order: list[Any] = []  # each node behind all nodes that it leads to
    seen = {None}
    todo: list[tuple[Any, bool]] = [(logits.grad_fn, False)]
    while todo:
        node, finished = todo.pop()
        if finished:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            todo.append((node, True))
            todo += [(following, False) for following, _ in node.next_functions]
    below: dict[Any, int] = {None: 0}  # paths from a node to the image
    for node in order:
        reached = getattr(node, "variable", None) is image
        below[node] = reached + sum(below[following] for following, _ in node.next_functions)
    above = dict.fromkeys(order, 0)  # paths from the logits to a node
    above[logits.grad_fn] = 1
    for node in reversed(order):
        for following, _ in node.next_functions:
            if following is not None:
                above[following] += above[node]
    total = below[logits.grad_fn]
    return {node for node in order if total and above[node] * below[node] == total}


def _cuts(calls: list[_Call]) -> list[_Cut]:
    """The calls on the path, those of nested modules with the same output joined."""
    cuts: dict[Any, _Cut] = {}
    for call in calls:
        if call.on_path:
            nest = cuts.setdefault(call.node, [])
            if not nest or nest[-1].name.startswith(f"{call.name}."):
                nest.append(call)
    return list(cuts.values())


def _residual_blocks(calls: list[_Call], cuts: list[_Cut]) -> list[_Cut]:
    """Cuts in token sequences ``(B, N, C)`` whose module holds weights beside the path."""
    holders = {call.name: cut for cut in cuts for call in cut}
    blocks = []
    for call in calls:
        if not call.on_path and next(call.module.parameters(recurse=False), None) is not None:
            name = call.name
            while name and name not in holders:
                name = name.rpartition(".")[0]
            blocks.append(holders.get(name))
    return [cut for cut in cuts if cut in blocks and len(cut[0].shape) == 3]


def _resolution_ends(cuts: list[_Cut], now: int) -> list[_Cut]:
    """Cuts behind reductions without weights and before those with weights, and the end of the trunk.

    ``now`` is the area of the image. The trunk ends where maps become vectors.
    """
    ends: list[_Cut] = []
    run: list[_Cut] = []  # cuts since the last end, all of one resolution
    for cut in cuts:
        call, after = cut[0], _area(cut[0].shape)
        flattened = after == 1 and (now >= 9 or (now == 1 and not run))
        if len(call.shape) != 4 or flattened or _ignores_size(call):
            break
        if _pools(call):
            ends.append(cut)
            run = []
        else:
            if run and 2 * after <= now:
                ends.append(_boundary(run))
                run = []
            run.append(cut)
        now = after
    return ends + ([_boundary(run)] if run else [])


def _boundary(run: list[_Cut]) -> _Cut:
    """The last cut behind a block of layers, if any: ``stages.0``, not the norm that opens stage 1."""
    blocks = [cut for cut in run if any(_weighted(child) for child in cut[-1].module.children())]
    return (blocks or run)[-1]


def _weighted(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def channels_at_end(shape: tuple[int, ...]) -> bool:
    """Whether a 4-D feature map is ``(B, H, W, C)``: square maps whose last side differs."""
    return len(shape) == 4 and shape[1] == shape[2] != shape[3]


def _area(shape: _Shape) -> int:
    """Positions of a ``(B, C, H, W)`` map, or of a square ``(B, H, W, C)`` one."""
    if len(shape) != 4:
        return 1
    return shape[1] * shape[2] if channels_at_end(shape) else shape[2] * shape[3]


def _pools(call: _Call) -> bool:
    before = 0 if call.before is None else _area(tuple(call.before.shape))
    return not _weighted(call.module) and 2 * _area(call.shape) <= before


def _ignores_size(call: _Call) -> bool:
    """Whether the module gives maps of one size whatever it gets, as global pooling does."""
    if call.before is None or call.before.dim() != 4 or _weighted(call.module):
        return False
    batch, channels, height, width = call.before.shape
    with evaluating(call.module):
        larger = call.module(call.before.new_zeros(batch, channels, 2 * height, 2 * width))
    return isinstance(larger, Tensor) and tuple(larger.shape) == call.shape


def _outermost(cut: _Cut, ends: list[_Cut]) -> str:
    """The largest module that gives the cut's tensor and holds no other end: not ``layer1.1.act2``."""
    others = [end[0].name for end in ends if end is not cut]
    free = [c.name for c in cut if not any(other.startswith(f"{c.name}.") for other in others)]
    return (free or [cut[0].name])[-1]
