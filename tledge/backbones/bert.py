"""A BERT encoder as a graph: token ids → hidden states, written so that onnxruntime fuses it.

Weights are named as in the files of the `transformers` package. The three projections of an attention are one MatMul;
Erf spells out the exact Gelu, of which onnxruntime makes BiasGelu. Positions are computed from the ids, element by
element, as it fuses only where it can infer that two shapes are one.
Source: Devlin et al. 2018 (arXiv 1810.04805); Vaswani et al. 2017 (arXiv 1706.03762) for the attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tledge.graph_writer import GraphWriter

Weights = Mapping[str, np.ndarray]
# Far enough below any score that its exponential is zero in float32, and near enough that adding loses none.
_MASKED = -10000.0


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a BERT encoder."""

    layers: int
    heads: int
    width: int
    epsilon: float = 1e-12


def encode(graph: GraphWriter, weights: Weights, shape: Shape) -> str:
    """Let `graph` make `input_ids` and `attention_mask` into hidden states [N, T, width]; returns their name."""
    tokens = _embed(graph, weights, shape)
    bias = _mask(graph)
    for layer in range(shape.layers):
        within = f"encoder.layer.{layer}."
        mixed = _attend(graph, weights, shape, within, tokens, bias)
        tokens = _norm(graph, weights, within + "attention.output.LayerNorm", mixed, tokens, shape)
        tokens = _norm(
            graph, weights, within + "output.LayerNorm", _feed_forward(graph, weights, within, tokens), tokens, shape
        )
    return tokens


def _embed(graph: GraphWriter, weights: Weights, shape: Shape) -> str:
    # A text is one sentence, so its token types are all 0.
    position = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    zeros = graph.node("Mul", ["input_ids", graph.constant("zero", 0, np.int64)], "embeddings/zeros")
    ones = graph.node("Add", [zeros, graph.constant("unit", 1, np.int64)], "embeddings/ones")
    places = graph.node("CumSum", [ones, graph.constant("unit", 1, np.int64)], "embeddings/places", exclusive=1)
    table = graph.constant("embeddings.words", weights["embeddings.word_embeddings.weight"])
    words = graph.node("Gather", [table, "input_ids"], "embeddings/words")
    positions = graph.node("Gather", [graph.constant("embeddings.positions", position), places], "embeddings/positions")
    return _norm(graph, weights, "embeddings.LayerNorm", words, positions, shape)


def _mask(graph: GraphWriter) -> str:
    counted = graph.node("Cast", ["attention_mask"], "mask/float", to=1)
    four = graph.node("Unsqueeze", [counted, graph.constant("axes12", [1, 2], np.int64)], "mask/four")
    left_out = graph.node("Sub", [graph.constant("one", 1), four], "mask/left_out")
    return graph.node("Mul", [left_out, graph.constant("masked", _MASKED)], "mask/bias")


def _attend(graph: GraphWriter, weights: Weights, shape: Shape, within: str, tokens: str, bias: str) -> str:
    """Add multi-head attention over `tokens`, with `bias` on the scores; returns the name of its output."""
    here, size = within + "attention/", shape.width // shape.heads
    parts = [within + f"attention.self.{part}." for part in ("query", "key", "value")]
    scale = np.array([size**-0.5, 1, 1], np.float32).repeat(shape.width)
    joined = np.concatenate([weights[part + "weight"].T for part in parts], 1) * scale
    shift = np.concatenate([weights[part + "bias"] for part in parts]) * scale
    projected = _add(
        graph, here + "qkv", graph.node("MatMul", [tokens, graph.constant(here + "W", joined)], here + "W·x"), shift
    )
    split = [here + each for each in "qkv"]
    graph.node("Split", [projected], here + "split", split, axis=-1)
    heads = graph.constant("heads", [0, 0, shape.heads, size], np.int64)
    query, key, value = (
        graph.node("Transpose", [graph.node("Reshape", [each, heads], each + "/heads")], each + "/turned", perm=order)
        for each, order in zip(split, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]), strict=True)
    )
    scores = graph.node("Add", [graph.node("MatMul", [query, key], here + "scores"), bias], here + "biased")
    chances = graph.node("Softmax", [scores], here + "softmax", axis=-1)
    mixed = graph.node("MatMul", [chances, value], here + "mixed")
    turned = graph.node("Transpose", [mixed], here + "turned", perm=[0, 2, 1, 3])
    flat = graph.node("Reshape", [turned, graph.constant("flat", [0, 0, shape.width], np.int64)], here + "flat")
    return _dense(graph, weights, within + "attention.output.dense", flat)


def _feed_forward(graph: GraphWriter, weights: Weights, within: str, tokens: str) -> str:
    wide, here = _dense(graph, weights, within + "intermediate.dense", tokens), within + "gelu/"
    ratio = graph.node("Div", [wide, graph.constant("root2", 2**0.5)], here + "ratio")
    step = graph.node("Add", [graph.node("Erf", [ratio], here + "erf"), graph.constant("one", 1)], here + "step")
    twice = graph.node("Mul", [wide, step], here + "twice")
    gelu = graph.node("Mul", [twice, graph.constant("half", 0.5)], here + "half")
    return _dense(graph, weights, within + "output.dense", gelu)


def _dense(graph: GraphWriter, weights: Weights, name: str, tokens: str) -> str:
    matrix = graph.constant(name + ".weight", weights[name + ".weight"].T)
    return _add(graph, name, graph.node("MatMul", [tokens, matrix], name + "/W·x"), weights[name + ".bias"])


def _add(graph: GraphWriter, name: str, product: str, bias: np.ndarray) -> str:
    return graph.node("Add", [product, graph.constant(name + ".bias", bias)], name)


def _norm(graph: GraphWriter, weights: Weights, name: str, one: str, other: str, shape: Shape) -> str:
    total = graph.node("Add", [one, other], name + "/sum")
    learned = [graph.constant(f"{name}.{part}", weights[f"{name}.{part}"]) for part in ("weight", "bias")]
    return graph.node("LayerNormalization", [total, *learned], name, axis=-1, epsilon=shape.epsilon)
