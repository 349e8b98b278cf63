"""Calibration: ranges are what their definitions say, and what onnxruntime finds; memory is that of one batch."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from conftest import make_backbone

from tledge.errors import ModelError, TledgeError
from tledge.model.precision.calibrate import calibrate, choose_ranges
from tledge.model.precision.quantize import _QUANTIZED_OPS as OPS
from tledge.model.precision.thresholds import METHODS, Observation, entropy, minmax, mse, percentile

onnx = pytest.importorskip("onnx", reason="onnx (extra train) is not installed")
quantization = pytest.importorskip("onnxruntime.quantization", reason="it needs onnx")
onnxruntime_calibrate = pytest.importorskip("onnxruntime.quantization.calibrate", reason="it needs onnx")

RNG = np.random.default_rng(5)
DISTRIBUTIONS = {
    "normal": RNG.normal(0.5, 2, 40_000),
    "one-sided": np.maximum(RNG.normal(0, 2, 40_000), 0),
    "long tail": RNG.standard_t(3, 40_000),
    "relu6": np.clip(RNG.normal(2, 3, 40_000), 0, 6),
    "negative": -RNG.gamma(2, 1, 40_000),
    "far from zero": RNG.normal(50, 1, 40_000),
}


def observed(values: np.ndarray) -> Observation:
    seen = Observation()
    seen.add(values.astype(np.float32))
    return seen


@pytest.fixture(params=DISTRIBUTIONS)
def values(request: pytest.FixtureRequest) -> np.ndarray:
    return DISTRIBUTIONS[request.param].astype(np.float32)


# ── Ranges ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_minmax_is_exact(values: np.ndarray) -> None:
    assert minmax(observed(values)) == (values.min(), values.max())


@pytest.mark.parametrize("kept", [99.999, 99.9, 90.0])
def test_percentiles_are_those_of_the_values_to_one_bin(values: np.ndarray, kept: float) -> None:
    values = np.sort(values)[1:]  # of an odd number, no cut falls between two values
    seen = observed(values)
    low, high = percentile(seen, kept)
    cut = (1 - kept / 100) / 2 * len(values)
    first, last = values[int(np.floor(cut))], values[int(np.ceil(len(values) - cut)) - 1]
    assert first - seen.width <= low <= first
    assert last <= high <= last + seen.width


def test_entropy_has_the_least_divergence_of_all_widths(values: np.ndarray) -> None:
    seen = observed(values[:1500])
    counts = seen.centred()
    zero = len(counts) // 2
    counts[zero] = min(counts[zero], counts[zero + 1])
    divergences = [divergence(counts, half, 128) for half in range(64, len(counts) // 2 + 1)]
    best = int(np.argmin(divergences)) + 64
    low, high = entropy(seen)
    assert (low, high) == (max(-best * seen.width, seen.low), min(best * seen.width, seen.high))


def test_zeros_behind_a_relu_do_not_decide_by_entropy() -> None:
    values = np.abs(RNG.normal(0, 1, 40_000))
    assert entropy(observed(np.append(values, np.zeros(400_000)))) == entropy(observed(np.append(values, 0.0)))


def divergence(counts: np.ndarray, half: int, levels: int) -> float:
    """Return the divergence of one width as Migacz wrote it down, bin by bin."""
    reach = len(counts) // 2
    inside = counts[reach - half : reach + half]
    truth = inside.copy()
    truth[0] += counts[: reach - half].sum()
    truth[-1] += counts[reach + half :].sum()
    told, size = np.zeros(len(inside)), len(inside) // levels
    for level in range(levels):
        group = slice(level * size, (level + 1) * size if level < levels - 1 else None)
        filled = truth[group] > 0
        if filled.any():
            told[group] = filled * (inside[group].sum() / filled.sum())
    if np.any((truth > 0) & (told == 0)):
        return np.inf
    p, q = truth / truth.sum(), told / told.sum()
    where = p > 0
    return float((p[where] * np.log(p[where] / q[where])).sum())


def test_mse_errs_as_little_as_the_best_of_many_ranges(values: np.ndarray) -> None:
    def error(low: float, high: float) -> float:
        scale = (max(high, 0.0) - min(low, 0.0)) / 255
        zero = np.round(-min(low, 0.0) / scale)
        steps = np.clip(np.round(values / scale) + zero, 0, 255)
        return float(np.square((steps - zero) * scale - values).mean())

    low, high = mse(observed(values))
    shares = np.linspace(0.05, 1, 40)
    lows, highs = ((end * shares if end else [0.0]) for end in (values.min(), values.max()))
    best = min(error(*pair) for pair in itertools.product(lows, highs) if pair[0] < pair[1])
    assert error(low, high) <= 1.03 * best


@pytest.mark.parametrize("method", METHODS)
def test_ranges_stay_within_what_was_seen(values: np.ndarray, method: str) -> None:
    low, high = METHODS[method](observed(values))
    assert values.min() <= low <= high <= values.max()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, 3.0, -3.0])
def test_a_constant_is_its_own_range(method: str, value: float) -> None:
    low, high = METHODS[method](observed(np.full(100, value)))
    assert min(low, 0.0) <= value <= max(high, 0.0)


def test_like_onnxruntime_on_the_same_values(values: np.ndarray) -> None:
    collector = onnxruntime_calibrate.HistogramCollector("percentile", False, 2048, 128, 99.999, "same")
    collector.collect({"x": [values]})
    low, high = (float(end) for end in collector.compute_collection_result()["x"][:2])
    seen = observed(values)
    # onnxruntime returns the left edges of its bins, which are wider than ours.
    bin_width = 2 * np.abs(values).max() / 2048
    assert percentile(seen) == pytest.approx((low, high), abs=1.001 * (bin_width + seen.width))


# ── Graphs ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def model(tmp_path: Path) -> Any:
    return onnx.shape_inference.infer_shapes(onnx.load(make_backbone(tmp_path / "graphs").path))


def pictures(count: int, size: int = 64) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, size, size, 3)).astype(np.uint8)


def size_of(model: Any) -> int:
    return model.graph.input[0].type.tensor_type.shape.dim[1].dim_value


def batches(model: Any, *sizes: int) -> list[dict[str, np.ndarray]]:
    images = np.split(pictures(sum(sizes), size_of(model)), np.cumsum(sizes)[:-1])
    return [{model.graph.input[0].name: each} for each in images]


class Reader:
    """Feeds onnxruntime's calibrators."""

    def __init__(self, feeds: list[dict[str, np.ndarray]]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


@pytest.mark.parametrize(
    ("method", "theirs", "options"),
    [
        ("minmax", quantization.CalibrationMethod.MinMax, {}),
        ("percentile", quantization.CalibrationMethod.Percentile, {"symmetric": False, "num_bins": 2048}),
    ],
)
def test_a_network_gets_the_ranges_of_onnxruntime(tmp_path: Path, model: Any, method, theirs, options) -> None:
    onnx.save(model, tmp_path / "float.onnx")
    feeds = batches(model, 3, 3)
    calibrator = onnxruntime_calibrate.create_calibrator(
        tmp_path / "float.onnx", OPS, str(tmp_path / "augmented.onnx"), theirs, extra_options=options
    )
    calibrator.collect_data(Reader(feeds))
    expected = {name: each.range_value for name, each in calibrator.compute_data().items()}
    seen = calibrate(model, OPS, [], feeds).observations
    found = choose_ranges(model, OPS, seen, method)
    assert found.keys() == expected.keys()
    for name, each in seen.items():
        low, high = (float(np.squeeze(end)) for end in expected[name])
        widest = max(abs(each.low), abs(each.high))
        within = 1e-5 * widest if method == "minmax" else 1.001 * (each.width + widest / 1024)
        assert found[name] == pytest.approx((low, high), abs=within), name


def test_what_only_a_clip_reads_gets_the_range_of_what_comes_out(model: Any) -> None:
    seen = calibrate(model, OPS, [], batches(model, 4)).observations
    found = choose_ranges(model, OPS, seen, "minmax")
    clips = [node for node in model.graph.node if node.op_type in ("Clip", "Relu")]
    assert clips
    for node in clips:
        assert node.input[0] not in seen
        assert found[node.input[0]] == found[node.output[0]]


@pytest.mark.parametrize("method", METHODS)
def test_what_only_a_concat_reads_gets_the_range_of_the_whole(method: str) -> None:
    node, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    nodes = [
        node("Mul", ["x", "small"], ["a"]),
        node("Relu", ["a"], ["alone"]),
        node("Mul", ["x", "large"], ["shared"]),
        node("Concat", ["alone", "shared"], ["whole"], axis=1),
        node("Add", ["shared", "x"], ["sum"]),
        node("Concat", ["whole", "sum"], ["y"], axis=1),
    ]
    constants = [
        onnx.numpy_helper.from_array(np.float32(value), name) for name, value in (("small", 0.1), ("large", 9))
    ]
    ends = [info("x", 1, ["N", 2, 4, 4])], [info("y", 1, ["N", 6, 4, 4])]
    graph = onnx.helper.make_graph(nodes, "g", *ends, constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    model = onnx.shape_inference.infer_shapes(model)
    feeds = [{"x": np.random.default_rng(3).normal(0, 1, (4, 2, 4, 4)).astype(np.float32)}]
    ops = ["Concat", "Relu", "Mul", "Add"]
    seen = calibrate(model, ops, [], feeds).observations
    found = choose_ranges(model, ops, seen, method)
    assert found["y"] == found["whole"] == found["alone"] == found["a"] == found["sum"]
    assert found["shared"] != found["y"] and found["y"] == METHODS[method](seen["y"])  # an Add reads it too


def test_means_are_those_of_the_channels(model: Any) -> None:
    feeds = batches(model, 2, 3)
    name = next(node.input[0] for node in model.graph.node if node.op_type == "Conv")
    means = calibrate(model, OPS, [name], feeds).means
    probe = onnx.ModelProto.FromString(model.SerializeToString())
    probe.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    rows = np.concatenate([session.run([name], feed)[0] for feed in feeds])
    np.testing.assert_allclose(means[name], rows.astype(np.float64).mean(axis=(0, 2, 3)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_no_order_of_batches_gives_other_ranges(model: Any, method: str) -> None:
    feeds = batches(model, 2, 2, 2, 2)
    expected = choose_ranges(model, OPS, calibrate(model, OPS, [], feeds).observations, method)
    for turned in (feeds[::-1], feeds[2:] + feeds[:2]):
        assert choose_ranges(model, OPS, calibrate(model, OPS, [], turned).observations, method) == expected


def test_what_is_kept_does_not_grow_with_the_pictures(model: Any) -> None:
    for count in (1, 30):
        seen = calibrate(model, OPS, [], batches(model, *(1 for _ in range(count)))).observations
        for each in seen.values():
            assert each.summary[3] % count == 0
            assert each.counts.sum() == each.summary[3]
            assert each.counts.nbytes + each.summary.nbytes == 4096 * 8 + 6 * 8
            assert each.counts.base is None


def test_activations_that_are_not_finite_are_named(model: Any) -> None:
    bias = next(each for each in model.graph.initializer if each.name.endswith("bias"))
    spoilt = onnx.numpy_helper.to_array(bias).copy()
    spoilt[0] = np.nan
    bias.CopyFrom(onnx.numpy_helper.from_array(spoilt, bias.name))
    with pytest.raises(ModelError, match=r"Activation .* must be finite"):
        calibrate(model, OPS, [], batches(model, 1))


def test_a_method_that_there_is_not_is_named() -> None:
    with pytest.raises(TledgeError, match="'median'"):
        choose_ranges(onnx.ModelProto(), OPS, {}, "median")
