"""Fold each batch normalisation of an ONNX graph into the convolution before it.

s = γ/√(σ² + ε) per output channel; the convolution gets weights W·s and bias β + (b − μ)·s. Quantization later meets
plain convolutions, whose ranges are those of what the network really computes.
Source: Jacob et al. 2018 (arXiv 1712.05877), section 3.2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tledge.backbones.from_onnx.graph import add_constant, attribute, constants, keep, producers, readers

_EPSILON = 1e-5


def fold_batch_norm(graph: Any) -> None:
    """Let the convolutions of `graph` absorb the normalisation that alone reads them, in place.

    Every node must have a name of its own.
    """
    makers, folded = producers(graph), set()
    for node in graph.node:
        convolution = makers.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if convolution is not None and _foldable(graph, convolution, node):
            _fold(graph, convolution, node)
            convolution.output[0] = node.output[0]
            folded.add(node.name)
    keep(graph.node, lambda node: node.name not in folded)


def _foldable(graph: Any, convolution: Any, norm: Any) -> bool:
    known = constants(graph).keys()
    plain = len([name for name in norm.output if name]) == 1 and not attribute(norm, "training_mode", 0)
    alone = len(readers(graph, convolution.output[0])) == 1
    numbers = {*convolution.input[1:], *norm.input[1:]} - {""}
    return convolution.op_type == "Conv" and plain and alone and numbers <= known


def _fold(graph: Any, convolution: Any, norm: Any) -> None:
    from onnx import numpy_helper

    known = constants(graph)

    def array(name: str) -> np.ndarray:
        return numpy_helper.to_array(known[name]).astype(np.float64)

    gamma, beta, mean, variance = (array(name) for name in norm.input[1:5])
    scale = gamma / np.sqrt(variance + attribute(norm, "epsilon", _EPSILON))
    weights = array(convolution.input[1])
    bias = array(convolution.input[2]) if len(convolution.input) > 2 and convolution.input[2] else 0.0
    # Weights and biases may serve several convolutions: these get their own.
    folded = {
        "weights": weights * scale.reshape(-1, *[1] * (weights.ndim - 1)),
        "bias": beta + (bias - mean) * scale,
    }
    names = [add_constant(graph, f"{norm.output[0]}/{key}", each.astype(np.float32)) for key, each in folded.items()]
    convolution.input[:] = [convolution.input[0], *names]
