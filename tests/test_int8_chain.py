"""The chain of int8 layers: what can run in int8 does, what cannot is named, and neither changes the function."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from conftest import make_photos, make_samples
from rich.console import Console

from tledge.cli import render
from tledge.modalities import preprocess
from tledge.model import float_nodes, quantize
from tledge.model.precision import int8_form
from tledge.schema import Backbone, FloatNode, PreprocessSpec, Quantization, Sample

onnx = pytest.importorskip("onnx", reason="onnx (extra train) is not installed")
helper, numpy_helper = onnx.helper, onnx.numpy_helper
node = helper.make_node

SIZE, CHANNELS = 16, 8


def constant(name: str, values: Any) -> Any:
    return numpy_helper.from_array(np.asarray(values), name)


def floats(name: str, *shape: int) -> Any:
    rng = np.random.default_rng(len(name))
    return constant(name, rng.normal(0, 0.4, shape).astype(np.float32))


def chain(*middle: Any, constants: tuple[Any, ...] = ()) -> Any:
    """Return a graph of two convolutions with nodes `middle` between, which read `first` and give `middle`."""
    nodes = [
        node("Transpose", ["image"], ["pixels"], "transpose", perm=[0, 3, 1, 2]),
        node("Cast", ["pixels"], ["cast"], "cast", to=onnx.TensorProto.FLOAT),
        node("Sub", ["cast", "mean"], ["centred"], "sub"),
        node("Mul", ["centred", "scale"], ["normalised"], "mul"),
        node("Conv", ["normalised", "w1", "b1"], ["first"], "conv1", pads=[1, 1, 1, 1]),
        *middle,
        node("Conv", ["middle", "weights2", "b2"], ["second"], "conv2"),
        node("GlobalAveragePool", ["second"], ["pool"], "pool"),
        node("Flatten", ["pool"], ["features"], "flatten"),
    ]
    image = helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["N", SIZE, SIZE, 3])
    features = helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["N", CHANNELS])
    layers = [floats("w1", CHANNELS, 3, 3, 3), floats("b1", CHANNELS), floats("b2", CHANNELS)]
    layers.append(floats("weights2", CHANNELS, CHANNELS, 3, 3))
    mean, scale = constant("mean", np.full((3, 1, 1), 127, np.float32)), constant("scale", np.float32(1 / 128))
    graph = helper.make_graph(nodes, "chain", [image], [features], [*layers, mean, scale, *constants])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


LIKE_MOBILENET = chain(
    node("Add", ["first", "three"], ["shifted"], "add"),
    node("Clip", ["shifted", "zero", "six"], ["clipped"], "clip"),
    node("Mul", ["clipped", "sixth"], ["gate"], "sixth"),
    node("Mul", ["first", "gate"], ["middle"], "swish"),
    constants=tuple(constant(n, np.float32(v)) for n, v in (("three", 3), ("zero", 0), ("six", 6), ("sixth", 1 / 6))),
)
IN_INT8 = {
    "hard swish in parts": LIKE_MOBILENET,
    "hard swish": chain(node("HardSwish", ["first"], ["middle"], "swish")),
    "swish": chain(node("Sigmoid", ["first"], ["gate"], "gate"), node("Mul", ["first", "gate"], ["middle"], "swish")),
    "squeeze and excite": chain(
        node("ReduceMean", ["first"], ["means"], "squeeze", axes=[-1, 2], keepdims=1),
        node("Conv", ["means", "w3", "b1"], ["reduced"], "reduce"),
        node("HardSigmoid", ["reduced"], ["gate"], "gate", alpha=0.3, beta=0.4),
        node("Mul", ["first", "gate"], ["middle"], "excite"),
        constants=(floats("w3", CHANNELS, CHANNELS, 1, 1),),
    ),
    "division": chain(node("Div", ["first", "six"], ["middle"], "div"), constants=(constant("six", np.float32(-6)),)),
    "padding": chain(
        node("Pad", ["first", "pads"], ["middle"], "pad"),
        constants=(constant("pads", np.array([0, 0, 0, 1, 0, 0, 1, 0])),),
    ),
    "slices": chain(
        node("Split", ["first"], ["a", "b"], "split", axis=1),
        node("LeakyRelu", ["a"], ["c"], "leaky", alpha=0.1),
        node("Concat", ["b", "c"], ["middle"], "concat", axis=1),
    ),
    "normalisation": chain(
        node("Mul", ["first", "scales"], ["scaled"], "scales"),
        node("Add", ["shifts", "scaled"], ["shifted"], "shifts"),
        node("Relu", ["shifted"], ["middle"], "relu"),
        constants=(floats("scales", 1, CHANNELS, 1, 1), floats("shifts", CHANNELS, 1, 1)),
    ),
}


@pytest.fixture
def samples(tmp_path: Path) -> tuple[Sample, ...]:
    return make_samples(make_photos(tmp_path / "photos", ["a", "b"], 8, size=SIZE))


def backbone_of(model: Any, folder: Path) -> Backbone:
    path = folder / "chain.onnx"
    path.write_bytes(model.SerializeToString())
    spec = PreprocessSpec(SIZE, SIZE, mean=(127.0,) * 3, std=(128.0,) * 3)
    return Backbone("chain", path, spec, CHANNELS, hashlib.sha256(path.read_bytes()).hexdigest())


def run(model: bytes, samples: tuple[Sample, ...], spec: PreprocessSpec) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(["features"], {"image": preprocess([each.path for each in samples], spec)})[0]


@pytest.mark.parametrize("model", IN_INT8.values(), ids=IN_INT8)
def test_what_has_a_kernel_runs_in_int8_and_keeps_the_features(model, samples, tmp_path) -> None:
    backbone = backbone_of(model, tmp_path)
    int8 = quantize(backbone, samples, tmp_path)
    assert float_nodes(int8.path) == ()
    exact, rounded = (run(each.path.read_bytes(), samples, backbone.preprocess) for each in (backbone, int8))
    assert np.linalg.norm(rounded - exact) <= 0.03 * np.linalg.norm(exact)


@pytest.mark.parametrize("model", IN_INT8.values(), ids=IN_INT8)
def test_the_form_for_int8_is_the_same_function_in_float(model, samples, tmp_path) -> None:
    backbone = backbone_of(model, tmp_path)
    rewritten = int8_form.rewritten(model)
    onnx.checker.check_model(rewritten, full_check=True)
    exact = run(backbone.path.read_bytes(), samples, backbone.preprocess)
    found = run(rewritten.SerializeToString(), samples, backbone.preprocess)
    np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-5 * np.abs(exact).max())


NO_KERNEL = {
    "Tanh": chain(node("Tanh", ["first"], ["middle"], "middle/tanh")),
    "Sub": chain(
        node("Sub", ["three", "first"], ["middle"], "middle/sub"), constants=(constant("three", np.float32(3)),)
    ),
    "Div": chain(node("Div", ["first", "first"], ["middle"], "middle/div")),
}


@pytest.mark.parametrize("operator", NO_KERNEL)
def test_what_has_none_is_named(operator: str, samples, tmp_path) -> None:
    int8 = quantize(backbone_of(NO_KERNEL[operator], tmp_path), samples, tmp_path)
    assert float_nodes(int8.path) == (FloatNode(f"middle/{operator.lower()}", operator),)


def test_a_layer_in_float_is_named_and_whether_that_was_asked_for(samples, tmp_path) -> None:
    backbone = backbone_of(LIKE_MOBILENET, tmp_path)
    layers = FloatNode("conv1", "Conv"), FloatNode("conv2", "Conv", asked=True)
    assert float_nodes(backbone.path, ["conv2", "swish"]) == layers  # nothing between two layers of int8, but both
    int8 = quantize(backbone, samples, tmp_path)
    assert float_nodes(int8.path.read_bytes()) == ()


def test_a_constant_factor_takes_no_node(samples, tmp_path) -> None:
    def int8(*middle: Any, factor: float = 1.0) -> Backbone:
        model = chain(*middle, constants=(constant("factor", np.float32(factor)),))
        (tmp_path / f"{factor}").mkdir()
        return quantize(backbone_of(model, tmp_path / f"{factor}"), samples, tmp_path)

    plain = int8(node("Relu", ["first"], ["middle"], "relu"))
    halved = int8(
        node("Relu", ["first"], ["relu"], "relu"), node("Mul", ["factor", "relu"], ["middle"], "factor"), factor=0.5
    )
    assert "Mul" not in {each.op_type for each in onnx.load(halved.path).graph.node}
    spec = plain.preprocess
    bias = numpy_helper.to_array(next(each for each in LIKE_MOBILENET.graph.initializer if each.name == "b2"))
    exact, found = (run(each.path.read_bytes(), samples, spec) - bias for each in (plain, halved))
    np.testing.assert_allclose(found, exact / 2, atol=0.01 * np.abs(exact).max())


@pytest.mark.parametrize("factor", [-2.0, 0.0])
def test_a_factor_that_turns_the_range_around_is_left(factor: float, samples, tmp_path) -> None:
    model = chain(
        node("Mul", ["first", "factor"], ["middle"], "factor"), constants=(constant("factor", np.float32(factor)),)
    )
    backbone = backbone_of(model, tmp_path)
    int8 = quantize(backbone, samples, tmp_path)
    assert "Mul" in {each.op_type for each in onnx.load(int8.path).graph.node}
    exact, rounded = (run(each.path.read_bytes(), samples, backbone.preprocess) for each in (backbone, int8))
    assert np.linalg.norm(rounded - exact) <= 0.03 * np.linalg.norm(exact)


def test_the_terminal_counts_what_is_in_float_and_why() -> None:
    tanh = tuple(FloatNode(f"tanh{i}", "Tanh") for i in range(30))
    left = (*tanh, FloatNode("sub", "Sub"), FloatNode("conv", "Conv", asked=True))
    console = Console(file=io.StringIO(), width=100)
    render._quantization(Quantization("minmax", True, False, float_nodes=left), console)
    lines = console.file.getvalue().splitlines()
    assert lines == ["In float for want of an int8 kernel: 30 Tanh, 1 Sub"]  # what was asked for is named elsewhere
