"""Drop what nobody reads any more, once a pass has led its readers elsewhere."""

from __future__ import annotations

from typing import Any


def drop_unread(graph: Any) -> None:
    """Take the nodes and constants that no output depends on out of `graph`, an onnx.GraphProto, in place.

    Its nodes must be sorted, and hold no graphs within.
    """
    needed = drop_unread_nodes(graph)
    _keep(graph.initializer, [each.name in needed for each in graph.initializer])


def drop_unread_nodes(graph: Any) -> set[str]:
    """Do so with nodes alone, and return the names of what the others and the outputs of `graph` read."""
    needed, kept = {value.name for value in graph.output}, []
    for node in reversed(graph.node):
        kept.append(not needed.isdisjoint(node.output))
        if kept[-1]:
            needed.update(node.input)
    _keep(graph.node, kept[::-1])
    return needed


def _keep(entries: Any, kept: list[bool]) -> None:
    for place in reversed(range(len(kept))):  # to compare entries, as `remove` does, would be to compare weights
        if not kept[place]:
            del entries[place]
