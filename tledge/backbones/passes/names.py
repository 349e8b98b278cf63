"""Give a converted graph names that are the same each time and say where a node comes from.

tf2onnx numbers what it makes, in an order that may differ from run to run; features are kept under the digest of the
graph, so the same network must give the same bytes. Nodes are named after the layer they come from, which is also how
quantization reports and cut points can speak of them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

_WEIGHT_NAMES = {"Conv": ("input", "weight", "bias"), "Clip": ("input", "min", "max")}


def rename(model: Any, layers: Iterable[str]) -> None:
    """Rename nodes, tensors and initializers of the ONNX `model` in place, and order both by how they are used.

    A node is called after the one of `layers` that it comes from, else after its operator; the graph's own inputs and
    outputs keep their names. Nodes that lead to no output are left out.
    """
    graph = model.graph
    _replace(graph.node, _in_order(graph))
    constants = {tensor.name: tensor for tensor in graph.initializer}
    names = _name_nodes(graph, constants, frozenset(layers))
    for node in graph.node:
        node.input[:] = [names[tensor] for tensor in node.input]
        node.output[:] = [names[tensor] for tensor in node.output]
    # `names` keeps the order of first use.
    ordered = [constants[tensor] for tensor in names if tensor in constants]
    for tensor in ordered:
        tensor.name = names[tensor.name]
    _replace(graph.initializer, ordered)


def _in_order(graph: Any) -> list[Any]:
    """Return the nodes in the one order in which each stands right behind what it reads first, first things first."""
    makers = {output: node for node in graph.node for output in node.output}
    ordered, placed = [], set()
    waiting = [(makers[value.name], False) for value in reversed(graph.output) if value.name in makers]
    while waiting:
        node, ready = waiting.pop()
        if node.output[0] in placed:
            continue
        if ready:
            placed.add(node.output[0])
            ordered.append(node)
        else:
            waiting.append((node, True))
            waiting.extend((makers[name], False) for name in reversed(node.input) if name in makers)
    return ordered


def _name_nodes(graph: Any, constants: dict[str, Any], layers: frozenset[str]) -> dict[str, str]:
    """Name the nodes of `graph`; return the new name of each tensor by its old one."""
    names = {"": "", **{value.name: value.name for value in (*graph.input, *graph.output)}}  # "" is an input left out
    taken: set[str] = set()
    readers = Counter(tensor for node in graph.node for tensor in set(node.input))
    for node in graph.node:
        own = [tensor for tensor in node.input if tensor in constants and readers[tensor] == 1]
        node.name = _unused(_origin(node, own, layers), node.op_type, taken)
        for position, tensor in enumerate(node.input):
            if tensor in constants:
                names.setdefault(tensor, f"{node.name}.{_role(node.op_type, position)}")
        for tensor in node.output:
            names.setdefault(tensor, node.name)
    return names


def _origin(node: Any, own: list[str], layers: frozenset[str]) -> str:
    if node.op_type == "Transpose":  # tf2onnx puts it under the name of the layer that it feeds
        return "transpose"
    # Merged nodes lose their scope, but their own weights still bear it; what several share bears that of any of them.
    for scoped in (node.name, *own):
        for part in scoped.split("/"):
            # Keras counts the calls of a layer in its scope: `conv_1` is the second call of `conv`.
            for candidate in (part, re.sub(r"_\d+$", "", part)):
                if candidate in layers:
                    return candidate
    return node.op_type.lower()


def _unused(origin: str, op_type: str, taken: set[str]) -> str:
    name, number = origin, 1
    while name in taken:
        name, number = f"{origin}.{op_type.lower()}" + (f"{number}" if number > 1 else ""), number + 1
    taken.add(name)
    return name


def _role(op_type: str, position: int) -> str:
    roles = _WEIGHT_NAMES.get(op_type, ())
    return roles[position] if position < len(roles) else f"constant{position}"


def _replace(repeated: Any, items: list[Any]) -> None:
    copies = [type(item).FromString(item.SerializeToString()) for item in items]
    del repeated[:]
    repeated.extend(copies)
