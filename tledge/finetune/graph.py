"""Where a Keras network can be cut in two: at a tensor through which everything flows.

An operation is what Keras calls a layer or a function applied to tensors; they stand in the order in which they run.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any


def outline(keras: ModuleType, network: Any) -> dict[str, Any]:
    """Return what there is to know of the cuts of a Keras `network`, plain values.

    `layers` are [name, place] of each layer that has weights to train, from the input up, without batch normalisation,
    which belongs to the layer before it; `cuts` are [name, place, shape] of each operation whose output is the only
    tensor that anything above it reads. Places count operations. `input` is the shape of one sample. A network that
    calls one layer twice has no cuts.
    """
    operations = _operations(network)
    norm = keras.layers.BatchNormalization
    weighted = [
        [each.name, place]
        for place, each in enumerate(operations)
        if getattr(each, "trainable_weights", None) and not isinstance(each, norm)
    ]
    return {"layers": weighted, "cuts": _cuts(network, operations), "input": list(network.inputs[0].shape[1:])}


def split(keras: ModuleType, network: Any, cut: str) -> tuple[Any, Any]:
    """Return the trunk of `network`, up to the output of the operation `cut` as one row, and the tail above it.

    trunk: the network's input → [N, h·w·c]; tail: [N, h, w, c] → the network's output. The layers are shared with
    `network`: what the tail learns, it knows too.
    """
    tensor = next(each for each in _operations(network) if each.name == cut).output
    row = tensor if len(tensor.shape) == 2 else keras.layers.Flatten(name="activations")(tensor)
    trunk = keras.Model(network.inputs[0], row, name=f"{network.name}-up-to-{cut}")
    return trunk, keras.Model(tensor, network.outputs[0], name=f"{network.name}-from-{cut}")


def _operations(network: Any) -> list[Any]:
    return list(getattr(network, "operations", network.layers))  # a chain of layers (Sequential) has no other


def _cuts(network: Any, operations: list[Any]) -> list[list[Any]]:
    """Return [name, place, shape] of each operation after which one tensor is all that is still to be read."""
    try:
        reads = [_tensors(each.input) for each in operations]
        writes = [_tensors(each.output) for each in operations]
    except (ValueError, AttributeError):  # Keras: a layer that is called twice has no one output
        return []
    last = {id(tensor): place for place, tensors in enumerate(reads) for tensor in tensors}
    last |= {id(tensor): len(operations) for tensor in network.outputs}
    alive: set[int] = set()
    found = []
    for place, (operation, tensors) in enumerate(zip(operations, writes, strict=True)):
        alive = {key for key in alive if last[key] > place} | {
            id(each) for each in tensors if last.get(id(each), 0) > place
        }
        if alive == {id(tensors[0])} and _is_cut(operation, network):
            found.append([operation.name, place, list(tensors[0].shape[1:])])
    return found


def _is_cut(operation: Any, network: Any) -> bool:
    tensor = _tensors(operation.output)[0]
    is_end = any(tensor is each for each in (*network.inputs, *network.outputs))
    return not is_end and tensor.dtype == "float32" and None not in tensor.shape[1:]


def _tensors(one_or_more: Any) -> list[Any]:
    return list(one_or_more) if isinstance(one_or_more, list | tuple) else [one_or_more]
