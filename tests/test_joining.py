"""Joining: what is shipped holds nothing idle, tells every shape, and gives the bits that it gave before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from conftest import make_backbone, make_head, make_manifest, make_photos, make_samples
from test_onnx_file import save

from tledge import heads
from tledge.backbones.from_onnx import file as onnx_file
from tledge.model import build, halve, quantize
from tledge.model.join import join
from tledge.model.tidy import tidy
from tledge.preprocess import preprocess
from tledge.schema import Backbone, BackboneOptions, Sample

onnx = pytest.importorskip("onnx", reason="onnx (extra train) is not installed")
TensorProto, helper, numpy_helper = onnx.TensorProto, onnx.helper, onnx.numpy_helper
node = helper.make_node

CLASSES = ("left", "right", "up")
PRECISIONS = ("fp32", "fp16", "int8")
OPTIONS = BackboneOptions(mean=(0.0,), std=(1.0,), channel_order="rgb", feature="scores")


@pytest.fixture
def samples(tmp_path: Path) -> tuple[Sample, ...]:
    return make_samples(make_photos(tmp_path / "photos", ["a", "b", "c"], 6))


def backbone_in(precision: str, samples: tuple[Sample, ...], folder: Path) -> Backbone:
    backbone = make_backbone(folder / "graphs")
    if precision == "int8":
        return quantize(backbone, samples, folder)
    return halve(backbone, samples, folder)[0] if precision == "fp16" else backbone


def pixels(samples: tuple[Sample, ...], backbone: Backbone) -> np.ndarray:
    return preprocess([sample.path for sample in samples], backbone.preprocess)


def run(model: Any, **feed: np.ndarray) -> np.ndarray:
    content = model if isinstance(model, bytes) else model.SerializeToString()
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, feed)[0]


def shapeless(model: Any) -> list[str]:
    """Return what nodes give without a type in the file, or with a length that is neither number nor name."""
    told = {
        each.name
        for each in (*model.graph.value_info, *model.graph.output)
        if each.type.tensor_type.elem_type
        if all(dim.dim_value or dim.dim_param for dim in each.type.tensor_type.shape.dim)
    }
    return [name for each in model.graph.node for name in each.output if name not in told]


def equal_constants(model: Any) -> int:
    kinds = [
        (each.data_type, tuple(each.dims), numpy_helper.to_array(each).tobytes()) for each in model.graph.initializer
    ]
    return len(kinds) - len(set(kinds))


# ── Tidying ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_idle_goes_and_the_rest_computes_what_it_did():
    one, other = (np.arange(4, dtype=np.float32) for _ in range(2))
    constants = {"a": one, "b": other, "c": one.astype(np.float64), "unread": one + 1, "shape": np.array([-1, 4])}
    nodes = [
        node("Identity", ["x"], ["x1"]),
        node("Identity", ["x1"], ["x2"]),
        node("Dropout", ["x2"], ["x3"]),
        node("Add", ["x3", "a"], ["y"]),
        node("Mul", ["y", "b"], ["z"]),
        node("Sqrt", ["x1"], ["nobody reads this"]),
        node("Cast", ["c"], ["c1"], to=TensorProto.FLOAT),
        node("Reshape", ["z", "shape"], ["z1"]),
        node("Sub", ["z1", "c1"], ["out"]),
        node("Identity", ["x2"], ["same"]),
    ]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    kinds = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in ("x", "out", "same")]
    wrong = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, 1])]
    graph = helper.make_graph(nodes, "g", kinds[:1], kinds[1:], initializers, value_info=wrong)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    before = run(onnx.ModelProto.FromString(model.SerializeToString()), x=x)
    found = tidy(model)
    onnx.checker.check_model(found, full_check=True)
    np.testing.assert_array_equal(run(found, x=x), before)
    # An output must have a node of its own, which may hand on what it gets.
    assert [each.op_type for each in found.graph.node] == ["Add", "Mul", "Cast", "Reshape", "Sub", "Identity"]
    assert {each.name for each in found.graph.initializer} == {"a", "c", "shape"}
    assert not shapeless(found)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_shipped_graph_is_tidy_tells_its_shapes_and_gives_the_same_bits(precision, samples, tmp_path):
    backbone = backbone_in(precision, samples, tmp_path)
    head = heads.graph(make_head(3), 8)
    images = pixels(samples, backbone)
    before = run(join(backbone, head), image=images)
    content, _ = build(backbone, head, make_manifest(backbone, CLASSES), samples, before)
    np.testing.assert_array_equal(run(content, image=images), before)
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert not shapeless(model) and not equal_constants(model)
    assert not {each.op_type for each in model.graph.node} & {"Identity", "Dropout", "BatchNormalization", "Constant"}
    read = {name for each in model.graph.node for name in each.input}
    assert {each.name for each in model.graph.initializer} <= read


# ── Files of a user's own ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_of_a_users_own_keeps_no_work_that_can_be_done_beforehand(tmp_path):
    """As PyTorch leaves it: weights transposed and shapes put together at run time, a Pad before a convolution."""
    rng = np.random.default_rng(0)
    constants = {
        "w1": rng.normal(0, 0.3, (8, 3, 3, 3)),
        "w2t": rng.normal(0, 0.3, (6, 8)),
        "scale": rng.uniform(0.5, 2, 8),
        "shift": rng.normal(0, 1, 8),
        "mean": rng.normal(0, 1, 8),
        "variance": rng.uniform(0.5, 2, 8),
        "half": np.full(1, 0.5),
    }
    whole = {
        "pads": [0, 0, 1, 1, 0, 0, 1, 1],
        "first": [0],
        "axes": [0],
        "rest": [8],
    }
    nodes = [
        node("Pad", ["input", "pads"], ["padded"]),
        node("Conv", ["padded", "w1"], ["c1"], strides=[2, 2]),
        node("BatchNormalization", ["c1", "scale", "shift", "mean", "variance"], ["n1"]),
        node("Relu", ["n1"], ["r1"]),
        node("GlobalAveragePool", ["r1"], ["p"]),
        node("Shape", ["p"], ["s"]),
        node("Gather", ["s", "first"], ["count"]),
        node("Concat", ["count", "rest"], ["target"], axis=0),
        node("Reshape", ["p", "target"], ["flat"]),
        node("Add", ["half", "half"], ["one"]),
        node("Transpose", ["w2t"], ["w2a"], perm=[1, 0]),
        node("Mul", ["w2a", "one"], ["w2"]),
        node("MatMul", ["flat", "w2"], ["hidden"]),
        node("Relu", ["hidden"], ["scores"]),
    ]
    arrays = {name: value.astype(np.float32) for name, value in constants.items()}
    arrays |= {name: np.array(value, np.int64) for name, value in whole.items()}
    path = save(tmp_path / "net.onnx", nodes, arrays)
    graph = onnx.load(onnx_file.load(path, tmp_path, OPTIONS).path).graph  # loading compares it with the file's own
    kinds = [each.op_type for each in graph.node]
    assert kinds == [
        "Transpose",
        "Cast",
        "Sub",
        "Mul",
        "Conv",
        "Relu",
        "GlobalAveragePool",
        "Reshape",
        "MatMul",
        "Relu",
    ]
    constant = {each.name for each in graph.initializer}
    assert all(constant >= set(each.input[1:]) for each in graph.node)


def test_a_rule_for_a_large_constant_stays_a_rule(tmp_path):
    """One number that says how many zeros there are is not turned into so many zeros."""
    constants = {
        "w": np.random.default_rng(0).normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32),
        "count": np.array([2_000_000], np.int64),
    }
    nodes = [
        node("Conv", ["input", "w"], ["c"]),
        node("GlobalMaxPool", ["c"], ["p"]),
        node("Flatten", ["p"], ["flat"]),
        node("ConstantOfShape", ["count"], ["zeros"]),
        node("ArgMax", ["flat"], ["place"], axis=1),
        node("Gather", ["zeros", "place"], ["nothing"]),
        node("Add", ["flat", "nothing"], ["scores"]),
    ]
    path = save(tmp_path / "net.onnx", nodes, constants)
    assert onnx_file.load(path, tmp_path, OPTIONS).path.stat().st_size < 100_000
