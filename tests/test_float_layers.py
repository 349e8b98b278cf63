"""Layers of an int8 graph that stay in float: in the graph, in what onnxruntime makes of it, and which are worth it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from conftest import make_backbone

from tledge.errors import TledgeError
from tledge.modalities import preprocess
from tledge.model import Recipe, Rounding, quantize, sensitivities
from tledge.model.precision import layers
from tledge.schema import Backbone, Sample, VectorSpec

onnx = pytest.importorskip("onnx", reason="onnx (extra train) is not installed")

PER_TENSOR = Rounding(per_channel=False)
MINMAX = Recipe("minmax", equalised=False)
NAMES = ("first", "middle", "second")


@pytest.fixture
def backbone(tmp_path: Path) -> Backbone:
    return deep(tmp_path)


def deep(folder: Path, bad: str = "") -> Backbone:
    """Return a backbone of three convolutions, `middle` with a clip between the two of `make_backbone`.

    The layer `bad`, first or middle, has one weight so large that one scale for all of them leaves nothing of the
    rest. What it makes itself is clipped to zero.
    """
    from onnx import helper, numpy_helper

    made = make_backbone(folder / "graphs", name=f"deep{bad}")
    model = onnx.load(made.path)
    rng, graph = np.random.default_rng(1), model.graph
    weights = {"middle.weight": rng.normal(0, 0.3, (6, 6, 3, 3)), "middle.bias": rng.normal(0, 0.2, 6)}
    graph.initializer.extend(numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items())
    nodes = [
        helper.make_node("Conv", ["first.relu6", "middle.weight", "middle.bias"], ["middle"], "middle"),
        helper.make_node("Clip", ["middle", "low", "high"], ["middle.relu6"], "middle.relu6"),
    ]
    (second,) = (node for node in graph.node if node.name == "second")
    second.input[0] = "middle.relu6"
    place = list(graph.node).index(second)
    for node in reversed(nodes):
        graph.node.insert(place, node)
    for each in graph.initializer:
        if bad and each.name in (f"{bad}.weight", f"{bad}.bias"):
            value = numpy_helper.to_array(each).copy()
            value.flat[0] = 300 if each.name.endswith("weight") else -3000
            each.CopyFrom(numpy_helper.from_array(value, each.name))
    onnx.save(model, made.path)
    return replace(made, digest=hashlib.sha256(made.path.read_bytes()).hexdigest())


def features(backbone: Backbone, samples: tuple[Sample, ...], optimized: bool = True) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(backbone.path), options, providers=["CPUExecutionProvider"])
    images = preprocess([sample.path for sample in samples], backbone.preprocess)
    return session.run(["features"], {"image": images})[0].astype(np.float64)


def error(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.square(found - exact).sum() / np.square(exact).sum())


def constants(backbone: Backbone) -> dict[str, np.ndarray]:
    return {each.name: onnx.numpy_helper.to_array(each) for each in onnx.load(backbone.path).graph.initializer}


@pytest.mark.parametrize("left", [("first",), ("middle",), ("second",), ("first", "second"), NAMES])
def test_layers_stay_as_they_are(left: tuple[str, ...], backbone, samples, tmp_path) -> None:
    found = quantize(backbone, samples, tmp_path, float_layers=left)
    before, after = constants(backbone), constants(found)
    nodes = {node.name: node for node in onnx.load(found.path).graph.node}
    for name in NAMES:
        weights, bias = nodes[name].input[1:]
        assert (weights == f"{name}.weight") == (name in left)
        if name in left:
            assert np.array_equal(after[weights], before[weights]) and np.array_equal(after[bias], before[bias])
    assert ("cast" in nodes) == ("first" in left)  # int8 takes the pixels as they are
    rounds = [each.output[0] for each in nodes.values() if each.op_type == "QuantizeLinear"]
    assert bool(rounds) == (left != NAMES) and len(set(rounds)) == len(rounds)
    exact = features(backbone, samples)
    assert error(features(found, samples), exact) < (0.01 if rounds else 1e-12)
    assert error(features(found, samples), features(found, samples, optimized=False)) < 1e-4


def test_nor_does_one_change_that_shares_its_weights_with_an_int8_layer(backbone, samples, tmp_path) -> None:
    model = onnx.load(backbone.path)
    place, second = next((i, node) for i, node in enumerate(model.graph.node) if node.name == "second")
    again = ["middle.relu6", "middle.weight", "middle.bias"]
    model.graph.node.insert(place, onnx.helper.make_node("Conv", again, ["again"], "again"))
    second.input[0] = "again"
    onnx.save(model, backbone.path)
    twice = replace(backbone, digest="twice")
    for left, other in (("middle", "again"), ("again", "middle")):
        found = quantize(twice, samples, tmp_path, float_layers=(left,))
        nodes = {node.name: node for node in onnx.load(found.path).graph.node}
        after = constants(found)
        kept = [after[name] for name in nodes[left].input[1:]]
        assert all(map(np.array_equal, kept, (constants(twice)[f"middle.{each}"] for each in ("weight", "bias"))))
        assert not {*nodes[other].input[1:]} & {*after}  # they are dequantized
        assert error(features(found, samples), features(twice, samples)) < 0.01


@pytest.mark.parametrize("bad", ["first", "middle"])
def test_onnxruntime_does_not_round_them_after_all(bad: str, samples, tmp_path) -> None:
    backbone = deep(tmp_path, bad)
    exact = features(backbone, samples)
    plain, mixed = (
        quantize(backbone, samples, tmp_path, "minmax", PER_TENSOR, float_layers=left) for left in ((), (bad,))
    )
    assert error(features(plain, samples), exact) > 0.03
    assert error(features(mixed, samples), exact) < 0.003


@pytest.mark.parametrize("transposed", [0, 1])
def test_nor_those_of_a_network_on_vectors(transposed: int, tmp_path) -> None:
    backbone, samples = on_vectors(tmp_path, transposed)
    rows = np.stack([each.value for each in samples])

    def made(each: Backbone) -> np.ndarray:
        return onnxruntime.InferenceSession(str(each.path)).run(None, {"vector": rows})[0].astype(np.float64)

    found = [quantize(backbone, samples, tmp_path, rounding=PER_TENSOR, float_layers=left) for left in ((), ("g1",))]
    plain, mixed = (error(made(each), made(backbone)) for each in found)
    assert plain > 0.05 and mixed < 0.003
    assert sensitivities(backbone, samples, tmp_path, MINMAX, PER_TENSOR)[0].name == "g1"


def on_vectors(folder: Path, transposed: int) -> tuple[Backbone, tuple[Sample, ...]]:
    """Return three matrix products on vectors of 12 numbers, the second with a weight that spoils its scale."""
    from onnx import TensorProto, helper, numpy_helper

    rng, nodes, constants, last = np.random.default_rng(2), [], {}, "vector"
    for i, (inputs, outputs) in enumerate([(12, 10), (10, 9), (9, 8)]):
        weights, bias = rng.normal(0, 0.4, (inputs, outputs)), rng.normal(0, 0.1, outputs)
        if i == 1:
            weights[0, 0], bias[0] = 300, -90000  # below zero for sure, where Relu cuts it off
        constants |= {f"w{i}": weights.T if transposed else weights, f"b{i}": bias}
        nodes.append(helper.make_node("Gemm", [last, f"w{i}", f"b{i}"], [f"y{i}"], f"g{i}", transB=transposed))
        last = "features" if i == 2 else f"r{i}"
        nodes.append(helper.make_node("Relu", [f"y{i}"], [last], f"relu{i}"))
    vector, features = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size])
        for name, size in (("vector", 12), ("features", 8))
    )
    arrays = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [vector], [features], arrays)
    path = folder / "vectors.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    values = rng.normal(0, 1, (40, 12)).astype(np.float32)
    samples = tuple(
        Sample(str(i), 0, hashlib.sha256(each.tobytes()).hexdigest(), value=each) for i, each in enumerate(values)
    )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Backbone("vectors", path, VectorSpec(12), 8, digest), samples


def test_no_set_of_layers_is_taken_for_another(backbone, samples, tmp_path) -> None:
    sets = [(), ("first",), ("middle",), ("first", "middle"), ("middle", "first")]
    made = [quantize(backbone, samples, tmp_path, float_layers=each) for each in sets]
    assert len({each.path for each in made}) == 4 and made[3] == made[4]


def test_a_layer_must_be_there(backbone, samples, tmp_path) -> None:
    with pytest.raises(TledgeError, match=r"no layer called 'midle'.*Did you mean middle"):
        quantize(backbone, samples, tmp_path, float_layers=["midle"])
    with pytest.raises(TledgeError, match=r"no layer called 'pool'"):
        quantize(backbone, samples, tmp_path, float_layers=["pool"])


def test_a_sum_goes_back_with_the_last_int8_layer_beside_it() -> None:
    node = onnx.helper.make_node
    nodes = [
        node("Conv", ["x", "w"], ["a"], "a"),
        node("Relu", ["a"], ["ra"], "ra"),
        node("Conv", ["ra", "w"], ["b"], "b"),
        node("Add", ["ra", "b"], ["sum"], "sum"),
        node("Conv", ["sum", "w"], ["c"], "c"),
    ]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], []))
    kinds = ["Conv", "Relu", "Add"]
    assert layers.exclude(model, [], kinds) == []
    assert layers.exclude(model, ["b"], kinds) == ["b"]
    assert layers.exclude(model, ["b", "c"], kinds) == ["b", "c"]  # `a` is int8, and the sum reads it
    assert layers.exclude(model, ["a"], kinds) == ["a"]  # `b` reads what the clip gives
    assert layers.exclude(model, ["a", "b", "c"], kinds) == ["a", "b", "c", "ra", "sum"]


@pytest.mark.parametrize("bad", ["first", "middle"])
def test_the_layer_that_loses_most_stands_first(bad: str, samples, tmp_path) -> None:
    found = sensitivities(deep(tmp_path, bad), samples, tmp_path, MINMAX, PER_TENSOR)
    assert found[0].name == bad and {each.name for each in found} == {*NAMES}
    assert found[0].error > 20 * found[1].error > 0
    assert {each.name: each.macs for each in found} == {
        "first": 49 * 6 * 27,
        "middle": 25 * 6 * 54,
        "second": 9 * 8 * 54,
    }
    assert {each.operator for each in found} == {"Conv"}


def test_sensitivities_are_measured_once(backbone, samples, tmp_path) -> None:
    told: list[tuple[int, int]] = []
    arguments = (samples, tmp_path, MINMAX, PER_TENSOR)

    def measured(*changed) -> tuple:
        told.clear()
        return sensitivities(backbone, *(changed or arguments), lambda *progress: told.append(progress))

    first = measured()
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert measured() == first and not told
    (file,) = (tmp_path / "backbones").glob("*sensitivity*.json")
    for spoilt in (file.read_bytes()[:-20], file.read_bytes().replace(b"middle", b"muddle"), b""):
        file.write_bytes(spoilt)
        assert measured() == first and len(told) == 3
    assert measured(samples, tmp_path, MINMAX, Rounding()) != first and told
    assert measured(samples[:-3], tmp_path, MINMAX, PER_TENSOR) and told
