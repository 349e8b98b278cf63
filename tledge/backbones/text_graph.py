"""The parts that graphs of texts share: `input_ids` and `attention_mask` int64 [N, T] → `features` float32 [N, …].

Operator set 17, standard operators only, so that any onnxruntime runs them; `pool` is good for newer sets as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tledge.errors import BackboneError, MissingExtra, did_you_mean
from tledge.modalities.text import TOKENIZER_KEY
from tledge.schema import BackboneOptions

OPSET, IR_VERSION = 17, 8
INPUTS = ("input_ids", "attention_mask")
POOLS = ("avg", "cls", "max")
# What a text has no use for; `weights` lie within.
_MEANINGLESS = ("weights", "mean", "std", "channel_order", "window_s", "hop_s", "fit")
_SHORTEST, _LONGEST = 8, 8192
# Beyond what an activation reaches, and finite for a row without tokens.
_BELOW_ALL = 1e30


class TextGraph:
    """A graph that is being written: its nodes in order and its constants, by name."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def constant(self, name: str, values: Any, kind: type = np.float32) -> str:
        """Add `values` as a constant of `kind` unless there is one called so; return its name."""
        from onnx import numpy_helper

        if name not in self.constants:
            array = np.array(values, kind, order="C", copy=None)
            self.constants[name] = numpy_helper.from_array(array, name)
        return name

    def node(self, operator: str, inputs: Sequence[str], name: str, outputs: Sequence[str] = (), **given: Any) -> str:
        """Add a node called `name`, whose output, unless `outputs` are named, is called so too; return the first."""
        from onnx import helper

        outputs = list(outputs) or [name]
        self.nodes.append(helper.make_node(operator, list(inputs), outputs, name, **given))
        return outputs[0]

    def model(self, name: str, dimension: int, tokenizer: str) -> Any:
        """Return the onnx.ModelProto that gives `features` [N, `dimension`], with the JSON `tokenizer` within."""
        import onnx
        from onnx import helper

        weights = list(self.constants.values())
        graph = helper.make_graph(self.nodes, name, inputs(), [output(dimension)], weights)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="tledge")
        helper.set_model_props(model, {TOKENIZER_KEY: tokenizer})
        onnx.checker.check_model(model)
        return model


def inputs() -> list[Any]:
    """Return what every graph of texts takes, as onnx.ValueInfoProto."""
    from onnx import TensorProto, helper

    return [helper.make_tensor_value_info(name, TensorProto.INT64, ["N", "T"]) for name in INPUTS]


def output(dimension: int) -> Any:
    """Return what it gives: `features` float32 [N, `dimension`]."""
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", dimension])


def pool(graph: TextGraph, tokens: str, how: str, mask: str = "attention_mask") -> None:
    """Let `graph` give `features` [N, H] of `tokens` [N, T, H]: their mean, their largest, or the first, by `how`.

    `mask` int64 [N, T] says which count; a row without any gives zeros as its mean.
    """
    if how == "cls":
        graph.node("Gather", [tokens, graph.constant("first", 0, np.int64)], "features", axis=1)
        return
    counted = graph.node("Cast", [mask], "pool/mask", to=1)
    if how == "max":
        column = graph.node("Unsqueeze", [counted, graph.constant("axis2", [2], np.int64)], "pool/column")
        kept = graph.node("Mul", [tokens, column], "pool/kept")
        less = graph.node("Sub", [column, graph.constant("one", 1)], "pool/less")
        far = graph.node("Mul", [less, graph.constant("below", _BELOW_ALL)], "pool/far")
        candidates = graph.node("Add", [kept, far], "pool/candidates")
        turned = graph.node("Transpose", [candidates], "pool/turned", perm=[0, 2, 1])
        graph.node("Flatten", [graph.node("GlobalMaxPool", [turned], "pool/largest")], "features", axis=1)
        return
    axis = graph.constant("axis1", [1], np.int64)
    row = graph.node("Unsqueeze", [counted, axis], "pool/row")
    total = graph.node("Squeeze", [graph.node("MatMul", [row, tokens], "pool/sum"), axis], "pool/total")
    count = graph.node("ReduceSum", [counted, axis], "pool/count", keepdims=1)
    least = graph.node("Max", [count, graph.constant("one", 1)], "pool/least")
    graph.node("Div", [total, least], "features")


def check_options(name: str, options: BackboneOptions, pools: Sequence[str] = POOLS) -> None:
    """Raise BackboneError for options that a backbone of texts called `name` cannot follow.

    `input_size` is how many tokens of a text are taken.
    """
    for option in _MEANINGLESS:
        if getattr(options, option) is not None:
            words = option.replace("_", " ")
            raise BackboneError(f"{name} takes texts, so that {words} cannot be given.", "Leave it out.")
    if options.pool is not None and options.pool not in pools:
        raise BackboneError(f"{name} cannot pool by {options.pool!r}.", did_you_mean(options.pool, pools))
    size = options.input_size
    if size is not None and not _SHORTEST <= size <= _LONGEST:
        raise BackboneError(f"The input size of {name} must be {_SHORTEST} to {_LONGEST} tokens, but is {size}.")


def require_onnx() -> None:
    """Raise MissingExtra without onnx, which is needed once, to make a backbone."""
    from importlib.util import find_spec

    if find_spec("onnx") is None:
        raise MissingExtra("onnx (needed once, to make the backbone)", "train")
