"""The parts that graphs of texts share: `input_ids` and `attention_mask` int64 [N, T] → `features` float32 [N, …].

Operator set 17, standard operators only, so that any onnxruntime runs them; `pool` is good for newer sets as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tledge.errors import BackboneError, MissingExtra, did_you_mean
from tledge.graph_writer import End, GraphWriter
from tledge.modalities.text import TOKENIZER_KEY
from tledge.schema import BackboneOptions

INPUTS = ("input_ids", "attention_mask")
POOLS = ("avg", "cls", "max")
# What a text has no use for; `weights` lie within.
_MEANINGLESS = ("weights", "mean", "std", "channel_order", "window_s", "hop_s", "fit")
_SHORTEST, _LONGEST = 8, 8192
# Beyond what an activation reaches, and finite for a row without tokens.
_BELOW_ALL = 1e30


def model(graph: GraphWriter, name: str, dimension: int, tokenizer: str) -> Any:
    """Return the onnx.ModelProto of `graph` that gives `features` [N, `dimension`], with the JSON `tokenizer` in it."""
    return graph.model(name, inputs(), [output(dimension)], {TOKENIZER_KEY: tokenizer})


def inputs() -> list[End]:
    """Return what every graph of texts takes: INPUTS, int64 [N, T]."""
    return [(name, np.int64, ["N", "T"]) for name in INPUTS]


def output(dimension: int) -> End:
    """Return what every graph of texts gives: `features` float32 [N, `dimension`]."""
    return ("features", np.float32, ["N", dimension])


def pool(graph: GraphWriter, tokens: str, how: str, mask: str = "attention_mask") -> None:
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
