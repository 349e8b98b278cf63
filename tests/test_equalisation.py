"""Equalisation: channels fill the range, the function stays, and what cannot be scaled is left alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from conftest import make_backbone, make_photos, make_samples

from tledge.model import quantize, quantize_best
from tledge.model.precision import calibration_pictures, equalisation
from tledge.model.precision.calibrate import channel_reaches
from tledge.schema import Backbone

onnx = pytest.importorskip("onnx", reason="onnx (extra train) is not installed")
node = onnx.helper.make_node if onnx else None


def network(nodes, weights: dict[str, np.ndarray], channels: int = 4) -> onnx.ModelProto:
    """Return a graph float [N, channels, 8, 8] `x` → `y` of `nodes`."""
    info = onnx.helper.make_tensor_value_info
    ends = [info("x", 1, ["N", channels, 8, 8])], [info("y", 1, ["N", None, None, None])]
    constants = [onnx.numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()]
    graph = onnx.helper.make_graph(nodes, "g", *ends, constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def uneven(outputs: int, inputs: int, taps: int = 1, seed: int = 0) -> np.ndarray:
    """Return weights whose output channels differ in size by up to a thousand times."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, (outputs, inputs, taps, taps)) * 10.0 ** rng.uniform(-2.5, 0.5, (outputs, 1, 1, 1))


def run(model: onnx.ModelProto, x: np.ndarray, *names: str) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(list(names) or ["y"], {"x": x})


WEIGHTS = {"w": uneven(6, 4), "b": np.linspace(-1, 1, 6), "low": 0.0, "high": 6.0}
MAKE = node("Conv", ["x", "w", "b"], ["made"])
BETWEEN = {
    "nothing": [node("Identity", ["made"], ["seen"])],
    "relu": [node("Relu", ["made"], ["seen"])],
    "leaky": [node("LeakyRelu", ["made"], ["seen"], alpha=0.1)],
    "relu6": [node("Clip", ["made", "low", "high"], ["seen"])],
    "pooled": [node("Relu", ["made"], ["r"]), node("MaxPool", ["r"], ["seen"], kernel_shape=[2, 2])],
    "residual": [
        node("Conv", ["made", "square"], ["other"]),
        node("Clip", ["other", "low", "high"], ["bent"]),
        node("Add", ["made", "bent"], ["seen"]),
    ],
}
READERS = {
    "dense": (uneven(5, 6, seed=1), {}),
    "depthwise": (uneven(6, 1, 3, seed=2), {"group": 6}),
    "multiplied": (uneven(12, 1, 3, seed=3), {"group": 6}),
    "grouped": (uneven(8, 3, 3, seed=4), {"group": 2}),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("between", BETWEEN)
def test_the_function_stays_and_channels_fill_the_range(between: str, reader: str) -> None:
    weights, attributes = READERS[reader]
    nodes = [MAKE, *BETWEEN[between], node("Conv", ["seen", "v"], ["y"], **attributes)]
    constants = WEIGHTS | {"v": weights} | ({"square": uneven(6, 6, seed=5)} if between == "residual" else {})
    model = network(nodes, constants)
    x = np.random.default_rng(9).normal(0, 2, (5, 4, 8, 8)).astype(np.float32)
    (before,) = run(model, x)
    found = equalisation.groups(model)
    names = [name for group in found for name in group.tensors]
    reaches = channel_reaches(model, names, [{"x": x[:3]}, {"x": x[3:]}])
    equalisation.equalise(model, found, reaches)
    np.testing.assert_allclose(run(model, x)[0], before, atol=1e-5 * np.abs(before).max())
    after = channel_reaches(model, names, [{"x": x}])
    assert found and max(after["seen"]) <= max(reaches["seen"]) * (1 + 1e-6)
    assert _evenness(after["seen"]) > 1.1 * _evenness(reaches["seen"])


def _evenness(reach: np.ndarray) -> float:
    """Return the geometric mean of the channels that stir, over the largest."""
    return float(np.exp(np.log(reach[reach > 0]).mean()) / reach.max())


def test_no_value_is_pushed_beyond_a_clip() -> None:
    nodes = [MAKE, *BETWEEN["relu6"], node("Conv", ["seen", "v"], ["y"], group=6)]
    model = network(nodes, WEIGHTS | {"v": READERS["depthwise"][0]})
    x = np.random.default_rng(9).normal(0, 2, (5, 4, 8, 8)).astype(np.float32)
    found = equalisation.groups(model)
    reaches = channel_reaches(model, ["seen"], [{"x": x}])
    equalisation.equalise(model, found, reaches)
    assert max(channel_reaches(model, ["seen"], [{"x": x}])["seen"]) <= 6
    saturated = reaches["seen"] == 6
    assert saturated.any()  # these may not be touched
    np.testing.assert_array_equal(_weights(model, "w")[saturated], np.float32(WEIGHTS["w"])[saturated])


def _weights(model: onnx.ModelProto, name: str) -> np.ndarray:
    return next(onnx.numpy_helper.to_array(each) for each in model.graph.initializer if each.name == name)


READ = node("Conv", ["seen", "v"], ["y"])
DENSE = {"v": READERS["dense"][0]}
LEFT_ALONE = {
    "read by a mean too": [
        MAKE,
        *BETWEEN["relu"],
        node("ReduceMean", ["seen"], ["m"]),
        node("Conv", ["seen", "v"], ["c"]),
        node("Add", ["c", "m"], ["y"]),
    ],
    "an output": [MAKE, node("Relu", ["made"], ["y"])],
    "sigmoid between": [MAKE, node("Sigmoid", ["made"], ["seen"]), READ],
    "a constant is added": [MAKE, node("Add", ["made", "high"], ["seen"]), READ],
    "clipped from below": [MAKE, node("Clip", ["made", "minus", "high"], ["seen"]), READ],
    "clipped from above alone": [MAKE, node("Clip", ["made", "", "high"], ["seen"]), READ],
    "made by the input": [node("Relu", ["x"], ["seen"]), node("Conv", ["seen", "u"], ["y"])],
    "weights used twice": [
        node("Conv", ["x", "u"], ["made"]),
        node("Relu", ["made"], ["seen"]),
        node("Conv", ["seen", "u"], ["y"]),
    ],
    "weights that are computed": [
        node("Neg", ["u"], ["computed"]),
        node("Conv", ["x", "computed"], ["made"]),
        node("Relu", ["made"], ["seen"]),
        node("Conv", ["seen", "u"], ["y"]),
    ],
}


@pytest.mark.parametrize("case", LEFT_ALONE)
def test_what_cannot_be_scaled_is_left_alone(case: str) -> None:
    nodes, used = LEFT_ALONE[case], {name for each in LEFT_ALONE[case] for name in each.input}
    known = WEIGHTS | DENSE | {"minus": -1.0, "u": uneven(4, 4)}
    model = network(nodes, {name: value for name, value in known.items() if name in used})
    assert equalisation.groups(model) == []


def test_a_channel_that_never_stirs_is_left_alone() -> None:
    weights = WEIGHTS | {"v": READERS["depthwise"][0]}
    weights["w"] = weights["w"] * (np.arange(6) > 0).reshape(-1, 1, 1, 1)
    weights["b"] = weights["b"] * (np.arange(6) > 0)
    model = network([MAKE, *BETWEEN["relu"], node("Conv", ["seen", "v"], ["y"], group=6)], weights)
    x = np.random.default_rng(9).normal(0, 2, (2, 4, 8, 8)).astype(np.float32)
    found = equalisation.groups(model)
    equalisation.equalise(model, found, channel_reaches(model, ["seen"], [{"x": x}]))
    np.testing.assert_array_equal(_weights(model, "v")[0], np.float32(weights["v"])[0])
    assert np.isfinite(_weights(model, "v")).all()


def test_int8_keeps_it_where_features_err_less(tmp_path: Path) -> None:
    samples = make_samples(make_photos(tmp_path / "photos", ["a", "b", "c"], 10))
    backbone = _uneven_backbone(tmp_path)
    best, errors = quantize_best(backbone, samples, tmp_path)
    found = {(each.method, each.equalised): each.error for each in errors}
    assert len(errors) == 5 and errors[0].equalised
    assert errors[0].error < 0.5 * min(error for (_, equalised), error in found.items() if not equalised)
    seen, _ = calibration_pictures.part(samples)
    assert best == quantize(backbone, seen, tmp_path, errors[0].method, equalised=True)
    (alone, *_), (only, *_) = quantize_best(backbone, samples, tmp_path, methods=("entropy",)), errors
    assert alone.precision == "int8" and only == errors[0]


def _uneven_backbone(folder: Path) -> Backbone:
    """Return the tiny backbone, whose first channels are made a hundred times as small and read as much larger."""
    backbone = make_backbone(folder / "graphs")
    model = onnx.load(backbone.path)
    factor = np.array([1, 1, 1, 1, 0.01, 0.005], np.float32)
    for each in model.graph.initializer:
        values = onnx.numpy_helper.to_array(each)
        if each.name.startswith("first."):
            each.CopyFrom(onnx.numpy_helper.from_array((values.T * factor).T.copy(), each.name))
        if each.name == "second.weight":
            each.CopyFrom(onnx.numpy_helper.from_array(values / factor.reshape(1, -1, 1, 1), each.name))
    path = folder / "uneven.onnx"
    onnx.save(model, path)
    return replace(backbone, path=path, digest="0" * 64)
