"""Backbone of texts → the same in int8, with the range of an activation taken as it runs: one for every token.

Ranges that pictures were calibrated on do not carry to the activations of an encoder, which differ by token by orders
of magnitude. A scale per token is computed in the graph instead, of standard operators alone:

    s = max|x| / 127    x̂ = round(x / s) + 128 as uint8    x·W ≈ (x̂ - 128)·Ŵ · s · t

with the weights Ŵ int8 and their scales t one per output channel. A token's result is thus the same whatever else is in
the batch, which onnxruntime's DynamicQuantizeLinear, one scale for all that it is fed, would not give. Tables that ids
are looked up in are int8 with a scale per row.
Source: Dettmers et al. 2022 (arXiv 2208.07339), section 2, of vector-wise quantization.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tledge.backbones import kept_files
from tledge.backbones.from_onnx.graph import add_constant, attribute, constants, keep
from tledge.backbones.from_onnx.opset import version
from tledge.errors import MissingExtra
from tledge.modalities import READERS
from tledge.schema import Backbone

DYNAMIC = "dynamic"  # what stands for the method of calibration, which there is none of
_REVISION = 2
_ACTIVATION_LARGEST, _ZERO = 127, 128
_WEIGHT_LARGEST = {False: 127, True: 63}
# A token of zeros has no range; any scale does for it.
_LEAST_SCALE = 1e-12
_SMALLEST_TABLE_BYTES = 1 << 16


def fits_dynamic(backbone: Backbone) -> bool:
    """Tell whether `backbone` takes rows of different lengths, as encoders of texts do; all others are calibrated."""
    return not READERS[backbone.preprocess.kind].even


def quantize_dynamic(backbone: Backbone, cache_dir: Path, *, reduce_range: bool = False) -> Backbone:
    """Return `backbone` with its matrices and tables in int8; kept in `cache_dir`/backbones.

    With `reduce_range` weights have seven bits, as x86 processors without VNNI need, where sums of two products of
    eight bits saturate. What is not a product with a constant matrix stays float. Raises MissingExtra without onnx,
    OutputError when there is no room.
    """
    decides = json.dumps([_REVISION, backbone.digest, reduce_range])
    folder, stem = cache_dir / "backbones", f"{backbone.name}-int8-{hashlib.sha256(decides.encode()).hexdigest()[:16]}"
    kept = kept_files.find(folder, stem)
    if kept is None:
        kept = kept_files.keep(folder, stem, _in_int8(backbone.path, _WEIGHT_LARGEST[reduce_range]))
    return replace(backbone, path=kept.path, digest=kept.digest, precision="int8")


def _in_int8(path: Path, largest: int) -> bytes:
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra("onnx", "train") from error
    model = onnx.load(path)
    rounding = _Rounding(model, largest)
    nodes = [made for node in model.graph.node for made in rounding.of(node)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    keep(model.graph.initializer, lambda each: each.name in read)
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


class _Rounding:
    """Rewrites nodes of a graph one by one, in order; an activation that several read is rounded once."""

    def __init__(self, model: Any, largest: int) -> None:
        self._graph, self._opset, self._largest = model.graph, version(model), largest
        self._weights = constants(model.graph)
        self._shared: dict[str, str] = {}
        self._rounded: dict[str, tuple[str, str]] = {}

    def of(self, node: Any) -> list[Any]:
        """Return the nodes that stand in for `node`: itself where it has no weights to round."""
        if node.op_type == "MatMul" and (weights := self._matrix(node.input[1])) is not None:
            return self._product(node, weights)
        if _is_plain_gemm(node) and (weights := self._matrix(node.input[1])) is not None:
            turned = weights.T if attribute(node, "transB", 0) else weights
            return self._product(node, turned, list(node.input[2:]))
        if node.op_type == "Gather" and not attribute(node, "axis", 0):
            table = self._matrix(node.input[0])
            if table is not None and table.nbytes >= _SMALLEST_TABLE_BYTES:
                return self._lookup(node, table)
        return [node]

    def _matrix(self, name: str) -> np.ndarray | None:
        from onnx import TensorProto, numpy_helper

        found = self._weights.get(name)
        if found is None or found.data_type != TensorProto.FLOAT or len(found.dims) != 2 or 0 in found.dims:
            return None
        return numpy_helper.to_array(found)

    def _product(self, node: Any, weights: np.ndarray, bias: list[str] | None = None) -> list[Any]:
        from onnx import TensorProto, helper

        name, make, (result,) = node.name or node.output[0], helper.make_node, node.output
        made, activation, scale = self._activation(node.input[0])
        one = self._one(made)
        rounded, scales = _round(weights, self._largest, axis=0)
        scales /= _ACTIVATION_LARGEST
        matrix, scales = (
            add_constant(self._graph, f"{name}/{k}", v) for k, v in (("int8", rounded), ("scale", scales))
        )
        product, wide, factor, unscaled = (f"{name}/{part}" for part in ("product", "float", "factor", "by_channel"))
        scaled = f"{name}/scaled" if bias else result
        # onnxruntime runs the first four as one, MatMulIntegerToFloat: where they stand just so, and where the factor
        # is no constant. A token's scale must not be that factor: a bias behind it would be scaled by it too.
        made += [
            make(
                "MatMulInteger", [activation, matrix, self._constant("zero_point", np.uint8(_ZERO))], [product], product
            ),
            make("Cast", [product], [wide], wide, to=TensorProto.FLOAT),
            make("Mul", [one, scales], [factor], factor),
            make("Mul", [wide, factor], [unscaled], unscaled),
            make("Mul", [unscaled, scale], [scaled], scaled if bias else name),
        ]
        return [*made, make("Add", [scaled, *bias], [result], name)] if bias else made

    def _activation(self, name: str) -> tuple[list[Any], str, str]:
        """Return nodes that round the activation `name`, none if it is, with the names of the result and its scale."""
        from onnx import helper

        if name in self._rounded:
            return [], *self._rounded[name]
        size, reach, scale, ratio, rounded = (f"{name}/{part}" for part in ("size", "reach", "scale", "ratio", "uint8"))
        make, constant = helper.make_node, self._constant
        last = {"axes": [-1]} if self._opset < 18 else {}
        axes = [] if last else [constant("last", np.array([-1], np.int64))]
        share, zero = constant("share", np.float32(1 / _ACTIVATION_LARGEST)), constant("zero_point", np.uint8(_ZERO))
        made = [
            make("Abs", [name], [size], size),
            make("ReduceMax", [size, *axes], [reach], reach, keepdims=1, **last),
            make("Max", [reach, constant("least", np.float32(_LEAST_SCALE))], [scale], scale),
            make("Div", [name, scale], [ratio], ratio),
            # The engine's one fast way to round: its Round takes ten times as long as the whole product.
            make("QuantizeLinear", [ratio, share, zero], [rounded], rounded),
        ]
        self._rounded[name] = (rounded, scale)
        return made, rounded, scale

    def _one(self, made: list[Any]) -> str:
        """Return the name of a 1 that depends on the input, so that nothing folds it; added once, to `made`."""
        from onnx import TensorProto, helper

        count, wide, one = "int8/count", "int8/count/float", "int8/one"
        if one not in self._shared:
            self._shared[one] = one
            made[:0] = [
                helper.make_node("Size", [self._graph.input[0].name], [count], count),
                helper.make_node("Cast", [count], [wide], wide, to=TensorProto.FLOAT),
                helper.make_node("Sign", [wide], [one], one),
            ]
        return one

    def _lookup(self, node: Any, table: np.ndarray) -> list[Any]:
        from onnx import TensorProto, helper

        name, make, (result,) = node.name or node.output[0], helper.make_node, node.output
        rounded, scales = _round(table, _WEIGHT_LARGEST[False], axis=1)
        rows, per_row = (add_constant(self._graph, f"{name}/{k}", v) for k, v in (("int8", rounded), ("scale", scales)))
        found, wide, scale = (f"{name}/{part}" for part in ("found", "float", "scales"))
        return [
            make("Gather", [rows, node.input[1]], [found], found),
            make("Gather", [per_row, node.input[1]], [scale], scale),
            make("Cast", [found], [wide], wide, to=TensorProto.FLOAT),
            make("Mul", [wide, scale], [result], name),
        ]

    def _constant(self, name: str, values: np.ndarray | np.generic) -> str:
        if name not in self._shared:
            self._shared[name] = add_constant(self._graph, f"int8/{name}", np.asarray(values))
        return self._shared[name]


def _is_plain_gemm(node: Any) -> bool:
    factors = (attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0))
    return node.op_type == "Gemm" and factors == (1.0, 1.0) and not attribute(node, "transA", 0)


def _round(weights: np.ndarray, largest: int, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `weights` [m, n] as int8, and their scales: of each column ([n], `axis` 0) or row ([m, 1], `axis` 1)."""
    reach = np.abs(weights).max(axis, keepdims=axis == 1)
    scales = np.maximum(reach / np.float32(largest), np.float32(_LEAST_SCALE)).astype(np.float32)
    return np.rint(weights / scales).astype(np.int8), scales
