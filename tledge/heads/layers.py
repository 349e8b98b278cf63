"""A head as plain layers, for networks that are built elsewhere."""

from __future__ import annotations

from typing import Literal

import numpy as np

from tledge.errors import TledgeError
from tledge.heads.dense import Layer, layers_of
from tledge.schema import Head

_ACTIVATION: dict[str, Literal["softmax", "sigmoid"]] = {
    "linear": "softmax",
    "centroid": "softmax",
    "mlp": "softmax",
    "binary": "softmax",
    "multilabel": "sigmoid",
}


def as_layers(head: Head) -> tuple[list[Layer], Literal["softmax", "sigmoid"]]:
    """Return (weights, bias) of each layer, relu between them, and what follows the last to give `probabilities`.

    Raises TledgeError for a head that is no stack of layers.
    """
    if head.kind not in _ACTIVATION:
        raise TledgeError(f"A head of kind '{head.kind}' is no network of layers.", "Export it as ONNX, in fp32.")
    layers = layers_of(head)
    if head.kind == "binary":  # one unit z; a softmax of 0 and z is its sigmoid, in two columns
        weights, bias = layers[-1]
        layers[-1] = np.hstack([np.zeros_like(weights), weights]), np.concatenate([np.zeros_like(bias), bias])
    return layers, _ACTIVATION[head.kind]
