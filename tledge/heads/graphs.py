"""The form that every head's graph has: `features` float32 [N, d] → `probabilities` float32 [N, classes]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tledge.graph_writer import assemble

if TYPE_CHECKING:
    import onnx


def finish(
    nodes: Sequence[onnx.NodeProto],
    constants: Sequence[onnx.TensorProto],
    dimension: int,
    classes: int,
    *,
    ml: bool = False,
) -> onnx.ModelProto:
    """Return the checked model of `nodes` and `constants`; with `ml` it may use the operators of ai.onnx.ml."""
    ends = [("features", np.float32, ["N", dimension])], [("probabilities", np.float32, ["N", classes])]
    return assemble("head", nodes, constants, *ends, ml=ml)
