"""What a serialized ONNX graph is made of: which nodes, and what feeds them. Needs the standard library alone.

A box that runs models has no onnx package, and onnxruntime tells where a node runs but not what it is fed. The few
fields that answer this are read from protobuf's wire format.
Source: protobuf's encoding guide; onnx.proto3 (ModelProto, GraphProto, NodeProto, ValueInfoProto, TensorProto).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tledge.schema import Precision

Role = Literal["compute", "head", "shape"]
_GRAPH = 7
_NODE, _INITIALIZER, _INPUT = 1, 5, 11
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FLOAT16 = 10  # TensorProto.DataType
_EXTERNAL = 13  # TensorProto.external_data, pairs of key and value
_ABOUT_SHAPES = ("Shape", "Size")  # what they give says nothing of a tensor's values


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a graph: its name and operator, the operator's domain, and the names of what goes in and comes out."""

    name: str
    operator: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outline:
    """The nodes of a graph in the order in which they run, what users feed it, and in what precision it computes.

    `beside` are the files that hold weights of it, as the graph names them.
    """

    nodes: tuple[Node, ...] = ()
    inputs: tuple[str, ...] = ()
    precision: Precision = "fp32"
    beside: tuple[str, ...] = ()


def read(model: bytes) -> Outline:
    """Return the outline of a serialized `model`; an empty one of bytes that are none, which onnxruntime refuses."""
    try:
        graph = next(value for number, value in _fields(memoryview(model)) if number == _GRAPH)
        fields = list(_fields(graph))
        nodes = tuple(_node(value) for number, value in fields if number == _NODE)
        constants = [_constant(value) for number, value in fields if number == _INITIALIZER]
        inputs = [_text(value, 1) for number, value in fields if number == _INPUT]
    except (IndexError, StopIteration, TypeError, ValueError):
        return Outline()
    known = {name for name, _, _ in constants}
    half = any(kind == _FLOAT16 for _, kind, _ in constants)
    beside = tuple(dict.fromkeys(place for _, _, place in constants if place))
    quantized = any(node.operator in ("QuantizeLinear", "DequantizeLinear") for node in nodes)
    precision: Precision = "int8" if quantized else "fp16" if half else "fp32"
    return Outline(nodes, tuple(name for name in inputs if name not in known), precision, beside)


def roles(outline: Outline) -> list[tuple[Node, Role]]:
    """Return what each node is for: compute carries on what was fed in, shape works on sizes and constants alone.

    head is an operator of classical machine learning (ai.onnx.ml: forests, SVMs) that is fed the network's features,
    and all that comes behind it.
    """
    fed, behind = set(outline.inputs), set()
    found: list[tuple[Node, Role]] = []
    for node in outline.nodes:
        role: Role = "shape"
        if node.operator not in _ABOUT_SHAPES and not fed.isdisjoint(node.inputs):
            role = "head" if node.domain == "ai.onnx.ml" or not behind.isdisjoint(node.inputs) else "compute"
            fed.update(node.outputs)
        if role == "head":
            behind.update(node.outputs)
        found.append((node, role))
    return found


def _node(data: memoryview) -> Node:
    texts: dict[int, list[str]] = {1: [], 2: [], 3: [""], 4: [""], 7: [""]}
    for number, value in _fields(data):
        if number in texts:
            texts[number].append(str(value, "utf-8", "replace"))
    return Node(texts[3][-1], texts[4][-1], texts[7][-1], tuple(texts[1]), tuple(texts[2]))


def _constant(data: memoryview) -> tuple[str, int, str]:
    """Return name and type of an initializer, and the file that holds its values if this one does not."""
    fields = list(_fields(data))
    kinds = [value for number, value in fields if number == 2]
    entries = [value for number, value in fields if number == _EXTERNAL]
    place = next((_text(entry, 2) for entry in entries if _text(entry, 1) == "location"), "")
    return _text(data, 8), kinds[-1] if kinds else 0, place


def _text(data: memoryview, wanted: int) -> str:
    return next((str(value, "utf-8", "replace") for number, value in _fields(data) if number == wanted), "")


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Yield number and value of each field of a message: an int, or the bytes of a text or a message within it."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError("no field of ONNX is of this kind")
        if at + size > len(data):
            raise ValueError("cut short")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return the integer at `at`, seven bits a byte, the lowest first, and where the next thing begins."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("longer than any integer")
