"""An ONNX graph in which nothing but the edges tells one network from another beside it.

A fused model exports with the names of its parts, and with one part after the other. Here names are numbers
and operations stand in a mixed order. The edges stay, since they are the function: whoever follows them back
from the answers finds where two networks meet, and can cut one off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from freehold.seeds import generator


def into_one(graph: Any) -> None:
    """Number the names of an ONNX ``GraphProto`` and mix the order of its operations, in place.

    Every operation stays behind those it needs, and computes what it did: answers keep their bits. Inputs and
    outputs of the graph keep their names. The same graph becomes the same one again.
    """
    draws = generator(0, "one graph")
    nodes, weights = _mixed(list(graph.node), draws), list(graph.initializer)
    drawn = [weights[i] for i in torch.randperm(len(weights), generator=draws).tolist()]
    kept = {value.name for value in (*graph.input, *graph.output)}
    names: dict[str, str] = {}

    def numbered(name: str) -> str:
        return name if not name or name in kept else names.setdefault(name, f"v{len(names)}")

    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(drawn)
    for weight in graph.initializer:
        weight.name = numbered(weight.name)
    for number, node in enumerate(graph.node):
        _rename(node, numbered)
        node.name = f"n{number}"


def _mixed(nodes: list[Any], draws: torch.Generator) -> list[Any]:
    """The nodes in an order drawn from all those in which each one's inputs are there."""
    made_by = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    needs = [{made_by[name] for name in _read(node) if name in made_by} for node in nodes]
    ready, order = [i for i, needed in enumerate(needs) if not needed], []
    while ready:
        taken = ready.pop(int(torch.randint(len(ready), (), generator=draws)))
        order.append(nodes[taken])
        for i, needed in enumerate(needs):
            if taken in needed:
                needed.remove(taken)
                if not needed:
                    ready.append(i)
    return order


def _inner(node: Any) -> Iterator[Any]:
    """Graphs in a node: the branches of a condition, the body of a loop."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _read(node: Any) -> Iterator[str]:
    """Names that a node or a graph inside it reads."""
    yield from node.input
    for graph in _inner(node):
        for inside in graph.node:
            yield from _read(inside)
        yield from (value.name for value in graph.output)


def _rename(node: Any, numbered: Callable[[str], str]) -> None:
    for names in (node.input, node.output):
        names[:] = [numbered(name) for name in names]
    for graph in _inner(node):
        for value in (*graph.input, *graph.output, *graph.initializer):
            value.name = numbered(value.name)
        del graph.value_info[:]
        for inside in graph.node:
            inside.name = ""
            _rename(inside, numbered)
