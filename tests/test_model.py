"""Model: joining and quantizing change nothing but what they say, and the file tells what it holds."""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from conftest import make_backbone, make_head, make_manifest, make_photos, make_samples

from tledge import heads
from tledge.errors import DataError, ModelError, OutputError
from tledge.features import FeatureStore, extract
from tledge.modalities import preprocess
from tledge.model import build, check_golden, quantize
from tledge.model.join import join
from tledge.model.manifest import stamp
from tledge.model.precision import bias_correction, layers, pixel_input
from tledge.model.precision.calibrate import calibrate
from tledge.runtime import Predictor
from tledge.schema import Backbone, Head, Sample

onnx = pytest.importorskip("onnx", reason="onnx (extra train) is not installed")
numpy_helper = onnx.numpy_helper

CLASSES = ("left", "right", "naïve “quoted” \\ 日本 \udc80")


@pytest.fixture
def head() -> Head:
    return make_head(len(CLASSES))


def graph_of(head: Head) -> Any:
    return heads.graph(head, 8)


def run(model: bytes | Path, images: np.ndarray) -> np.ndarray:
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"]).run(None, {"image": images})[0]


def pixels(samples: Sequence[Sample], backbone: Backbone) -> np.ndarray:
    return preprocess([sample.path for sample in samples], backbone.preprocess)


def expected_rows(samples: Sequence[Sample], backbone: Backbone, head: Head) -> np.ndarray:
    return heads.probabilities(head, run(backbone.path, pixels(samples, backbone)))


def operators(path: Path) -> list[str]:
    """Return the operators that a picture passes on its way to the features, one reader after the other."""
    graph, name, passed = onnx.load(path).graph, "image", []
    while readers := [node for node in graph.node if name in node.input]:
        passed.append(readers[0].op_type)
        name = readers[0].output[0]
    return passed


# ── Join ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_joined_graph_is_the_head_after_the_backbone(samples, backbone, head):
    model = join(backbone, graph_of(head))
    images = pixels(samples, backbone)
    found = run(model.SerializeToString(), images)
    np.testing.assert_allclose(found, expected_rows(samples, backbone, head), atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(run(model.SerializeToString(), images[:1]), found[:1], atol=1e-6)


def test_the_joined_graph_takes_pixels_and_gives_probabilities(backbone, head):
    graph = join(backbone, graph_of(head)).graph
    image, probabilities = graph.input[0], graph.output[0]
    assert [value.name for value in (*graph.input, *graph.output)] == ["image", "probabilities"]
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim] == ["N", 16, 16, 3]
    assert [d.dim_param or d.dim_value for d in probabilities.type.tensor_type.shape.dim] == ["N", 3]


# ── Build ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_file_is_an_ordinary_onnx_model_that_tells_what_it_is(tmp_path, samples, backbone, head):
    content, _ = build(
        backbone, graph_of(head), make_manifest(backbone, CLASSES), samples, expected_rows(samples, backbone, head)
    )
    onnx.checker.check_model(content, full_check=True)
    np.testing.assert_allclose(
        run(content, pixels(samples, backbone)), expected_rows(samples, backbone, head), atol=1e-6
    )
    said = {entry.key: entry.value for entry in onnx.load_from_string(content).metadata_props}
    assert json.loads(said["classes"]) == list(CLASSES)
    assert json.loads(said["preprocess"]) == {**asdict(backbone.preprocess), "mean": [127.0] * 3, "std": [128.0] * 3}
    assert said["precision"] == "fp32"
    body = content[: content.rindex(b"\x72", 0, content.rindex(b"tledge.digest"))]
    assert said["tledge.digest"] == hashlib.sha256(body).hexdigest()
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    predictor = Predictor(path)
    assert replace(predictor.manifest, golden=()) == make_manifest(backbone, CLASSES)
    assert predictor.digest == said["tledge.digest"]
    assert predictor.bytes == len(content)


def test_golden_samples_are_pictures_of_the_set_and_pass_where_they_were_made(tmp_path, samples, backbone, head):
    rows = expected_rows(samples, backbone, head)
    content, check = build(backbone, graph_of(head), make_manifest(backbone, CLASSES), samples, rows)
    assert (check.samples, check.flips, check.passed) == (4, 0, True)
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    predictor = Predictor(path)
    again = check_golden(predictor)
    assert (again.samples, again.flips, again.passed) == (4, 0, True)
    assert again.max_abs_diff < 1e-6
    golden = np.array([sample.probabilities for sample in predictor.manifest.golden])
    np.testing.assert_allclose(golden, rows[[0, 8, 15, 23]], atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_test_samples_make_few_golden_ones(samples, backbone, head, count):
    rows = expected_rows(samples[:count], backbone, head)
    _, check = build(backbone, graph_of(head), make_manifest(backbone, CLASSES), samples[:count], rows)
    assert check.samples == count


def test_a_file_that_would_not_do_what_was_measured_is_not_built(samples, backbone, head):
    rows = expected_rows(samples, backbone, head)
    with pytest.raises(ModelError, match="must give what its head gave"):
        build(backbone, graph_of(head), make_manifest(backbone, CLASSES), samples, rows[::-1])
    with pytest.raises(ModelError, match="must give what its head gave"):
        build(backbone, graph_of(head), make_manifest(backbone, CLASSES), samples, np.full_like(rows, np.nan))


def test_a_machine_that_computes_something_else_does_not_pass(tmp_path, samples, backbone, head):
    content, _ = build(
        backbone, graph_of(head), make_manifest(backbone, CLASSES), samples, expected_rows(samples, backbone, head)
    )
    (tmp_path / "model.onnx").write_bytes(content)
    manifest = Predictor(tmp_path / "model.onnx").manifest
    shifted = replace(head, arrays={**head.arrays, "bias": head.arrays["bias"] + np.float32([0, 0.05, 0])})
    other = join(backbone, graph_of(shifted))
    (tmp_path / "other.onnx").write_bytes(stamp(other, manifest))
    check = check_golden(Predictor(tmp_path / "other.onnx"))
    assert not check.passed
    assert check.tolerance < check.max_abs_diff < 0.05


BROKEN_GOLDEN = {
    "none": [],
    "no base64": [{"png": "?", "probabilities": [1, 0, 0]}],
    "no picture": [{"png": "aGVsbG8=", "probabilities": [1, 0, 0]}],
    "no numbers": [{"png": None, "probabilities": ["x", "y", "z"]}],
}


@pytest.mark.parametrize("golden", BROKEN_GOLDEN.values(), ids=BROKEN_GOLDEN)
def test_golden_samples_that_cannot_be_read_are_refused(tmp_path, backbone, head, golden):
    model = join(backbone, graph_of(head))
    content = stamp(model, replace(make_manifest(backbone, CLASSES), golden=tuple(golden)))
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError, match="golden samples"):
        check_golden(Predictor(tmp_path / "model.onnx"))


def test_golden_samples_of_another_size_are_refused(tmp_path, samples, backbone, head):
    small = make_backbone(tmp_path / "graphs", name="small", size=12)
    rows = expected_rows(samples, small, head)
    content, _ = build(small, graph_of(head), make_manifest(small, CLASSES), samples, rows)
    (tmp_path / "small.onnx").write_bytes(content)
    golden = Predictor(tmp_path / "small.onnx").manifest.golden
    (tmp_path / "model.onnx").write_bytes(
        stamp(join(backbone, graph_of(head)), replace(make_manifest(backbone, CLASSES), golden=golden))
    )
    with pytest.raises(ModelError, match="golden samples"):
        check_golden(Predictor(tmp_path / "model.onnx"))


# ── Quantize ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_int8_backbone_keeps_the_features(tmp_path, samples, backbone):
    int8 = quantize(backbone, samples, tmp_path)
    exact, rounded = (run(each.path, pixels(samples, backbone)) for each in (backbone, int8))
    assert np.linalg.norm(rounded - exact) <= 0.05 * np.linalg.norm(exact)
    assert int8.digest == hashlib.sha256(int8.path.read_bytes()).hexdigest() != backbone.digest
    assert replace(int8, path=backbone.path, digest=backbone.digest, precision="fp32") == backbone
    onnx.checker.check_model(onnx.load(int8.path), full_check=True)


def test_the_default_backbone_keeps_its_features_in_int8_and_shrinks(tmp_path, lite0, cache):
    samples = make_samples(make_photos(tmp_path / "photos", ["a", "b"], 8, size=96))
    int8 = quantize(lite0, samples, cache)
    with FeatureStore(cache) as store:
        exact, rounded = (extract(samples, each, store).matrix for each in (lite0, int8))
    assert np.linalg.norm(rounded - exact) <= 0.25 * np.linalg.norm(exact)
    assert np.corrcoef(rounded.ravel(), exact.ravel())[0, 1] > 0.97
    assert int8.path.stat().st_size < 0.3 * lite0.path.stat().st_size
    assert operators(int8.path)[:3] == ["Transpose", "DequantizeLinear", "Conv"]


def test_the_graph_is_explicit_qdq_with_a_scale_for_every_output_channel(tmp_path, samples, backbone):
    graph = onnx.load(quantize(backbone, samples, tmp_path).path).graph
    kinds = {node.op_type for node in graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "Conv"} <= kinds
    assert not any("Integer" in kind or kind.startswith("QLinear") or "Dynamic" in kind for kind in kinds)
    arrays = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    for conv in (node for node in graph.node if node.op_type == "Conv"):
        weight, scale, zero = (arrays[name] for name in makers[conv.input[1]].input)
        assert weight.dtype == np.int8
        assert scale.shape == (len(weight),)
        assert not zero.any()
        activation_zero = arrays[makers[conv.input[0]].input[2]]
        assert activation_zero.dtype == np.uint8


def test_averages_stay_float(tmp_path, samples, backbone):
    graph = onnx.load(quantize(backbone, samples, tmp_path).path).graph
    (pool,) = (node for node in graph.node if node.op_type == "GlobalAveragePool")
    readers = [node.op_type for node in graph.node if pool.output[0] in node.input]
    assert readers == ["Flatten"]
    assert graph.node[-1].output[0] == "features"


def test_whole_means_let_the_convolution_read_the_bytes_themselves(tmp_path, samples, backbone):
    path = quantize(backbone, samples, tmp_path).path
    assert operators(path)[:3] == ["Transpose", "DequantizeLinear", "Conv"]
    graph = onnx.load(path).graph
    (dequantize,) = (node for node in graph.node if "pixels" in node.input)
    arrays = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    scale, zero = (arrays[name] for name in dequantize.input[1:])
    assert (scale, zero, zero.dtype) == (np.float32(1 / 128), 127, np.uint8)
    used = {name for node in graph.node for name in node.input}
    assert arrays.keys() <= used


NOT_WHOLE = {
    "half": {"mean": (127.5,) * 3},
    "one per channel": {"mean": (123.0, 116.0, 103.0)},
    "negative": {"mean": (-1.0,) * 3},
    "one spread per channel": {"mean": (127.0,) * 3, "std": (58.0, 57.0, 57.0)},
}


@pytest.mark.parametrize("normalisation", NOT_WHOLE.values(), ids=NOT_WHOLE)
def test_other_means_keep_the_normalisation_in_float(tmp_path, samples, normalisation):
    backbone = make_backbone(tmp_path / "graphs", **normalisation)
    path = quantize(backbone, samples, tmp_path).path
    floats = ["Transpose", "Cast", "Sub", "Mul"]
    assert operators(path)[:7] == [*floats, "QuantizeLinear", "DequantizeLinear", "Conv"]
    exact, rounded = (run(each, pixels(samples, backbone)) for each in (backbone.path, path))
    assert np.linalg.norm(rounded - exact) <= 0.05 * np.linalg.norm(exact)


def test_equal_calibration_gives_equal_bytes_in_any_order_and_place(tmp_path, samples, backbone):
    first = quantize(backbone, samples, tmp_path / "one")
    second = quantize(backbone, samples[::-1], tmp_path / "two")
    assert first.path.name == second.path.name
    assert first.path.read_bytes() == second.path.read_bytes()


def test_what_decides_the_graph_decides_the_file(tmp_path, samples, backbone):
    others = [
        quantize(backbone, samples, tmp_path),
        quantize(backbone, samples[:20], tmp_path),
        quantize(make_backbone(tmp_path / "graphs", name="tiny2", seed=2), samples, tmp_path),
        quantize(replace(backbone, preprocess=replace(backbone.preprocess, fit="crop")), samples, tmp_path),
    ]
    assert len({each.path for each in others}) == len(others)


def test_a_kept_graph_is_used_without_a_look_at_the_pictures(tmp_path, samples, backbone):
    first = quantize(backbone, samples, tmp_path)
    for sample in samples:
        Path(sample.path).unlink()
    assert quantize(backbone, samples, tmp_path) == first


@pytest.mark.parametrize("damage", [b"", b"something else"], ids=["emptied", "overwritten"])
def test_a_damaged_graph_is_made_again(tmp_path, samples, backbone, damage):
    first = quantize(backbone, samples, tmp_path)
    content = first.path.read_bytes()
    first.path.write_bytes(damage)
    assert quantize(backbone, samples, tmp_path) == first
    assert first.path.read_bytes() == content


def test_files_that_cannot_be_decoded_are_passed_over(tmp_path, samples, backbone):
    Path(samples[0].path).write_bytes(b"no picture")
    spoilt = (replace(samples[0], digest=hashlib.sha256(b"no picture").hexdigest()), *samples[1:])
    assert quantize(backbone, spoilt, tmp_path).precision == "int8"
    with pytest.raises(DataError, match="at least one readable"):
        quantize(backbone, spoilt[:1], tmp_path)


def test_a_place_that_cannot_be_written_to_is_an_error(tmp_path, samples, backbone):
    (tmp_path / "backbones").write_text("in the way")
    with pytest.raises(OutputError):
        quantize(backbone, samples, tmp_path)


def test_quantizing_says_nothing_and_leaves_nothing_behind(tmp_path, samples, backbone):
    (tmp_path / "empty").mkdir()
    code = """
import logging, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from conftest import make_backbone, make_samples
from tledge.model import quantize
here = Path(sys.argv[2])
quantize(make_backbone(here / "graphs"), make_samples(here / "photos"), here / "cache")
assert not logging.getLogger().handlers and not logging.getLogger().filters
"""
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path)]
    environment = {"TMPDIR": str(tmp_path / "empty"), "PATH": ""}
    child = subprocess.run(command, cwd=tmp_path / "empty", env=environment, capture_output=True, text=True)
    assert (child.returncode, child.stdout, child.stderr) == (0, "", "")
    assert list((tmp_path / "empty").iterdir()) == []


def test_the_log_of_others_is_left_as_it_was(tmp_path, samples, backbone):
    root = logging.getLogger()
    before = list(root.handlers), list(root.filters), root.level
    quantize(backbone, samples, tmp_path)
    assert (list(root.handlers), list(root.filters), root.level) == before


# ── Biases ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("groups", "outputs", "inputs"), [(1, 4, 3), (3, 6, 3), (2, 4, 6)])
def test_the_shift_of_a_channel_is_what_the_change_of_its_weights_adds_over_flat_planes(groups, outputs, inputs):
    rng = np.random.default_rng(0)
    change, planes = rng.normal(size=(outputs, inputs // groups, 3, 3)), rng.normal(size=inputs)
    shift = bias_correction._shift(change, planes)
    for output in range(outputs):
        first = output // (outputs // groups) * (inputs // groups)
        own = planes[first : first + inputs // groups]
        assert shift[output] == pytest.approx(sum(change[output, i].sum() * own[i] for i in range(len(own))))


def test_corrected_biases_bring_the_means_of_a_rounded_network_back(samples, backbone):
    images = pixels(samples, backbone)
    exact = onnx.load(backbone.path)
    corrected = onnx.load(backbone.path)
    batches = [{"image": images[:12]}, {"image": images[12:]}]
    seen = calibrate(onnx.shape_inference.infer_shapes(exact), ["Conv"], bias_correction.inputs(exact), batches)
    bias_correction.correct_biases(corrected, seen.means)
    drift = [abs(first_layer(rounded(model), images) - first_layer(exact, images)) for model in (exact, corrected)]
    assert np.linalg.norm(drift[1]) < 0.3 * np.linalg.norm(drift[0])
    same = {each.name for each in exact.graph.initializer if each in corrected.graph.initializer}
    changed = {each.name for each in exact.graph.initializer} - same
    assert changed == {"first.bias", "second.bias", "first.weight", "second.weight"}


def test_convolutions_that_share_their_weights_are_each_corrected():
    text = """<ir_version: 8, opset_import: ["" : 17]> shared (float[1, 2, 9, 9] x) => (float[1, 2, 3, 3] features)
    { [first] y = Conv(x, weight, bias) [second] z = Conv(y, weight, bias) [third] features = Conv(z, weight, bias) }"""
    rng, model = np.random.default_rng(4), onnx.parser.parse_model(text)
    exact = {"weight": rng.normal(size=(2, 2, 3, 3)).astype(np.float32), "bias": rng.normal(size=2).astype(np.float32)}
    model.graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in exact.items())
    means = {name: rng.normal(size=2) for name in "xyz"}
    layers.detach(model)
    bias_correction.correct_biases(model, means, ["second"])
    onnx.checker.check_model(model)
    change = bias_correction._rounding(exact["weight"].astype(np.float64))
    found = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    for node, mean in zip(model.graph.node, means.values(), strict=True):
        weight, bias = (found[name] for name in node.input[1:])
        rounds = node.name != "second"  # which stays in float
        np.testing.assert_allclose(weight, exact["weight"] + rounds * change, atol=1e-6)
        np.testing.assert_allclose(bias, exact["bias"] - rounds * bias_correction._shift(change, mean), atol=1e-6)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize(
    ("shape", "reduce_range"), [((6, 3, 3, 3), False), ((8, 1, 5, 5), True), ((5, 7, 1, 1), False)]
)
def test_rounded_weights_keep_the_sum_of_their_taps(shape, reduce_range, per_channel):
    weights = np.random.default_rng(2).normal(0, 1, shape) * np.geomspace(0.1, 3, shape[0]).reshape(-1, 1, 1, 1)
    rounded = weights + bias_correction._rounding(weights, per_channel, reduce_range)
    largest = np.abs(weights).reshape(shape[0], -1).max(axis=1) if per_channel else np.abs(weights).max()
    step = np.broadcast_to(largest / (64 if reduce_range else 127), shape[:1]).reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(rounded / step, np.round(rounded / step), atol=1e-9)  # on the steps of int8
    assert (np.abs(rounded - weights) < 1 * step).all()  # a neighbour, the nearest or the other
    assert np.abs(rounded).max() == pytest.approx(np.abs(weights).max())  # or the scale would be another
    summed = np.abs((rounded - weights).sum(axis=(2, 3)) / step[..., 0, 0])
    assert summed.max() <= 0.5 + 1e-9


def test_weights_that_are_nothing_stay_so():
    nothing = np.zeros((2, 3, 3, 3))
    np.testing.assert_array_equal(bias_correction._rounding(nothing), nothing)


def rounded(model: Any) -> Any:
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    for each in copy.graph.initializer:
        if each.name.endswith(".weight"):
            weights = numpy_helper.to_array(each)
            change = bias_correction._rounding(weights.astype(np.float64))
            each.CopyFrom(numpy_helper.from_array((weights + change).astype(np.float32), each.name))
    return copy


def first_layer(model: Any, images: np.ndarray) -> np.ndarray:
    """Return the mean of each channel of the first convolution's output."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    copy.graph.output.append(onnx.helper.make_tensor_value_info("first", onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(copy.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["first"], {"image": images})[0].astype(np.float64).mean(axis=(0, 2, 3))


@pytest.mark.parametrize("std", [(57.0, 58.0, 59.0), (58.0, 58.0, 58.0)])
def test_a_normalisation_per_channel_keeps_every_bit_along_a_row(samples, tmp_path, std, monkeypatch):
    backbone = make_backbone(tmp_path / "graphs", name="perchannel", mean=(124.0, 117.0, 104.0), std=std)
    wide = quantize(backbone, samples, tmp_path / "wide")
    arrays = {each.name: list(each.dims) for each in onnx.load(wide.path).graph.initializer}
    assert arrays["mean"] == [3, 1, 16] == arrays["scale"]
    monkeypatch.setattr(pixel_input, "widen", lambda *_: None)
    narrow = quantize(backbone, samples, tmp_path / "narrow")
    images = pixels(samples, backbone)
    np.testing.assert_array_equal(run(wide.path, images), run(narrow.path, images))
