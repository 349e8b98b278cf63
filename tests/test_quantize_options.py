"""int8 options: which ranges, one scale or many, seven bits or eight; and that none of them is taken for another."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from conftest import make_backbone
from typer.testing import CliRunner

import tledge
from tledge import machine
from tledge.cli.app import app
from tledge.modalities import preprocess
from tledge.model import Rounding, quantize, quantize_best
from tledge.model.precision import calibration_pictures
from tledge.model.precision.thresholds import METHODS
from tledge.schema import Backbone, Sample

onnx = pytest.importorskip("onnx", reason="onnx (extra train) is not installed")


def features(backbone: Backbone, samples: tuple[Sample, ...] | list[Sample]) -> np.ndarray:
    images = preprocess([sample.path for sample in samples], backbone.preprocess)
    session = onnxruntime.InferenceSession(str(backbone.path), providers=["CPUExecutionProvider"])
    return session.run(["features"], {"image": images})[0].astype(np.float64)


def error(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.square(found - exact).sum() / np.square(exact).sum())


def weights(backbone: Backbone) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return for each convolution its int8 weights and their scales."""
    graph = onnx.load(backbone.path).graph
    arrays = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    return {node.name: tuple(arrays[name] for name in makers[node.input[1]].input[:2]) for node in convolutions}


ROUNDINGS = [Rounding(each, reduced) for each in (True, False) for reduced in (True, False)]


@pytest.mark.parametrize("rounding", ROUNDINGS, ids=str)
def test_weights_have_the_scales_and_bits_asked_for(rounding: Rounding, backbone, samples, tmp_path) -> None:
    found = quantize(backbone, samples, tmp_path, rounding=rounding)
    for values, scale in weights(found).values():
        assert scale.size == (len(values) if rounding.per_channel else 1)
        assert np.abs(values.astype(int)).max() == (64 if rounding.reduce_range else 127)
    assert error(features(found, samples), features(backbone, samples)) < 0.01


def test_no_option_is_taken_for_another(backbone, samples, tmp_path) -> None:
    roundings = [*ROUNDINGS, Rounding(symmetric=True)]
    made = [quantize(backbone, samples, tmp_path, method, each) for method in METHODS for each in roundings]
    assert len({each.path for each in made}) == len(METHODS) * len(roundings)


def test_auto_keeps_the_method_whose_features_err_least_on_other_pictures(backbone, samples, tmp_path) -> None:
    best, errors = quantize_best(backbone, samples, tmp_path)
    assert {each.method for each in errors} == set(METHODS)
    assert [each.error for each in errors] == sorted(each.error for each in errors)
    seen, others = calibration_pictures.part(samples)
    made = {
        (method, equalised): quantize(backbone, seen, tmp_path, method, equalised=equalised)
        for method in METHODS
        for equalised in (False, True)
    }
    assert best == made[errors[0].method, errors[0].equalised]
    first = {each.equalised: each.error for each in errors if each.method == "minmax"}  # which tells for the others
    assert {each.equalised for each in errors if each.method != "minmax"} == {first[True] < first[False]}
    exact = features(backbone, others)
    for each in errors:
        assert each.error == pytest.approx(error(features(made[each.method, each.equalised], others), exact), rel=1e-6)


def test_pictures_to_judge_by_gave_no_ranges() -> None:
    rows = [Sample(str(i), 0, hashlib.sha256(str(i % 300).encode()).hexdigest()) for i in range(400)]
    seen, judged = calibration_pictures.part(rows)
    assert (len(seen), len(judged)) == (128, 32)
    assert not {each.digest for each in seen} & {each.digest for each in judged}
    seen, judged = calibration_pictures.part(rows[:1])
    assert seen == judged == rows[:1]


@pytest.mark.parametrize(
    ("processor", "sets", "saturates"),
    [
        ("x86_64", ["avx2"], True),
        ("AMD64", ["avx2", "avx512f"], True),
        ("x86_64", ["avx2", "avx_vnni"], False),
        ("x86_64", ["avx2", "avx512f", "avx512_vnni"], False),
        ("aarch64", ["asimd"], False),
    ],
)
def test_only_an_x86_without_vnni_saturates(processor, sets, saturates, monkeypatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: processor)
    monkeypatch.setattr(machine, "describe", lambda: {"instruction_sets": sets})
    assert machine.saturates_int8() is saturates


def test_an_export_says_how_it_was_quantized(run: Path, tmp_path: Path) -> None:
    plain = tledge.export(run, tmp_path / "plain.onnx", calibration="minmax", min_agreement=0).quantization
    assert plain is not None and (plain.calibration, plain.per_channel) == ("minmax", True)
    assert [each.method for each in plain.errors] == ["minmax", "minmax"]
    assert plain.errors[0].equalised == plain.equalised != plain.errors[1].equalised
    assert plain.reduce_range == machine.saturates_int8() and plain.float_nodes == ()
    asked = SimpleNamespace(per_tensor=True, reduce_range=True)
    found = tledge.export(run, tmp_path / "auto.onnx", min_agreement=0, **vars(asked)).quantization
    assert found is not None and (found.per_channel, found.reduce_range) == (False, True)
    assert found.calibration == found.errors[0].method and len(found.errors) == len(METHODS) + 1
    assert tledge.verify(tmp_path / "auto.onnx").passed


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--calibration", "minmix"], "Did you mean minmax"),
        (["--precision", "fp32", "--per-tensor"], "are for int8"),
        (["--precision", "fp16", "--no-reduce-range"], "are for int8"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: list[str], said: str, run: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["export", str(run), "--out", str(tmp_path / "m.onnx"), *options])
    assert result.exit_code == 2 and said in result.stderr and result.stderr.count("\n") == 1


def test_symmetric_is_the_form_that_tensorrt_takes(backbone, samples, tmp_path) -> None:
    found = quantize(backbone, samples, tmp_path, rounding=Rounding(symmetric=True))
    graph = onnx.load(found.path).graph
    arrays = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    rounding = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert all(arrays[node.input[2]].dtype == np.int8 and not arrays[node.input[2]].any() for node in rounding)
    for node in (node for node in graph.node if node.op_type == "Conv"):
        pairs = [makers[makers[name].input[0]] for name in node.input[:2]]
        assert [each.op_type for each in pairs] == ["QuantizeLinear", "QuantizeLinear"]
        assert arrays[pairs[1].input[0]].dtype == arrays[node.input[2]].dtype == np.float32
        assert {each.op_type for each in graph.node if node.output[0] in each.input} <= {"Clip", "Relu"}
    assert error(features(found, samples), features(backbone, samples)) < 0.01


def test_symmetric_does_not_take_the_pixels_as_they_are(samples, tmp_path) -> None:
    black = make_backbone(tmp_path / "graphs", name="black", mean=(0.0,) * 3, std=(255.0,) * 3)
    found = quantize(black, samples, tmp_path, rounding=Rounding(symmetric=True))
    assert {"cast", "sub", "mul"} <= {node.name for node in onnx.load(found.path).graph.node}
    assert error(features(found, samples), features(black, samples)) < 0.01


@pytest.mark.parametrize("target", ["jetson", "tensorrt", "cuda", "cpu"])
def test_the_target_decides_over_the_form_of_int8(target: str, run: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    found = tledge.export(run, tmp_path / "m.onnx", target=target, min_agreement=0, on_note=notes.append)
    how, graph = found.quantization, onnx.load(tmp_path / "m.onnx").graph
    symmetric = target in ("jetson", "tensorrt")
    assert how is not None and how.symmetric is symmetric and how.float_nodes == ()
    assert how.reduce_range is (target == "cpu" and machine.saturates_int8())
    pixels = [node.op_type for node in graph.node if "image" in node.input]
    kinds = {each.data_type for each in graph.initializer if "zero_point" in each.name}
    assert (onnx.TensorProto.UINT8 in kinds) is not symmetric and pixels
    said = {"cuda": "no int8 convolutions", "jetson": "symmetric", "tensorrt": "symmetric"}.get(target)
    assert any(said in note for note in notes) if said else not notes
    assert tledge.verify(tmp_path / "m.onnx").passed
