"""Half precision: float16 where it does no harm, float32 where values are large, and the file says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from conftest import make_backbone, make_photos, make_samples
from typer.testing import CliRunner

import tledge
from tledge import half
from tledge.cli.app import app
from tledge.modalities import preprocess
from tledge.model import halve
from tledge.schema import Backbone, Sample

onnx = pytest.importorskip("onnx", reason="onnx (extra train) is not installed")

EPSILON = float(np.finfo(np.float16).eps)


@pytest.fixture
def samples(tmp_path: Path) -> tuple[Sample, ...]:
    return make_samples(make_photos(tmp_path / "photos", ["a", "b"], 8))


def features(backbone: Backbone, samples: tuple[Sample, ...]) -> np.ndarray:
    images = preprocess([sample.path for sample in samples], backbone.preprocess)
    session = onnxruntime.InferenceSession(str(backbone.path), providers=["CPUExecutionProvider"])
    return session.run(["features"], {"image": images})[0]


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def types(backbone: Backbone) -> dict[str, int]:
    model = onnx.shape_inference.infer_shapes(onnx.load(backbone.path))
    found = {each.name: each.type.tensor_type.elem_type for each in (*model.graph.value_info, *model.graph.output)}
    return found | {each.name: each.data_type for each in model.graph.initializer}


def test_weights_and_products_are_float16_and_features_float32(tmp_path: Path, samples) -> None:
    backbone = make_backbone(tmp_path / "graphs")
    found, float_nodes = halve(backbone, samples, tmp_path)
    assert found.precision == "fp16" and float_nodes == ()
    assert types(found)["first.weight"] == types(found)["first"] == onnx.TensorProto.FLOAT16
    assert types(found)["features"] == onnx.TensorProto.FLOAT
    rows = features(found, samples)
    assert rows.dtype == np.float32
    assert 0 < difference(rows, features(backbone, samples)) <= 8 * EPSILON


@pytest.mark.parametrize("gain", [4e4, 1e7], ids=["activations", "weights too"])
def test_what_would_overflow_stays_in_float32_and_is_named(gain: float, tmp_path: Path, samples) -> None:
    loud = make_backbone(tmp_path / "graphs", gain=gain)
    naive = tmp_path / "naive.onnx"
    naive.write_bytes(half.in_half(loud.path))
    expected = features(loud, samples)
    assert expected.max() > half.LARGEST
    found, float_nodes = halve(loud, samples, tmp_path)
    assert {"second", "second.relu"} <= set(float_nodes) and "first" not in float_nodes
    assert "pool" not in float_nodes  # stays in float32 for any values
    assert types(found)["second.weight"] == onnx.TensorProto.FLOAT
    assert types(found)["first.weight"] == onnx.TensorProto.FLOAT16
    rows = features(found, samples)
    assert np.isfinite(rows).all() and difference(rows, expected) <= 8 * EPSILON
    for node in onnx.load(found.path).graph.node:  # what is large is nowhere cast to float16 on its way
        if node.op_type == "Cast" and node.attribute[0].i == onnx.TensorProto.FLOAT16:
            assert not node.input[0].startswith(("second", "pool")), node.name


def test_what_decides_the_graph_decides_the_file(tmp_path: Path, samples) -> None:
    backbone = make_backbone(tmp_path / "graphs")
    first, again = halve(backbone, samples, tmp_path), halve(backbone, samples[::-1], tmp_path)
    assert first == again
    others = [halve(make_backbone(tmp_path / "graphs", name="other", seed=2), samples, tmp_path)[0]]
    others.append(halve(backbone, samples[:9], tmp_path)[0])
    assert len({each.path for each in (first[0], *others)}) == 3


def test_a_tensor_that_two_float_nodes_read_is_cast_once(tmp_path: Path) -> None:
    make, float32 = onnx.helper.make_node, onnx.TensorProto.FLOAT
    nodes = [
        make("Cast", ["image"], ["cast"], to=float32),
        make("Conv", ["cast", "weight"], ["conv"]),
        make("GlobalAveragePool", ["conv"], ["one"]),
        make("ReduceMean", ["conv"], ["two"], axes=[2, 3], keepdims=1),
        make("Add", ["one", "two"], ["features"]),
    ]
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["N", 3, 8, 8])
    out = onnx.helper.make_tensor_value_info("features", float32, ["N", 4, 1, 1])
    weight = onnx.numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32) / 27, "weight")
    graph = onnx.helper.make_graph(nodes, "g", [image], [out], [weight])
    path = tmp_path / "graph.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    onnx.checker.check_model(onnx.load_from_string(half.in_half(path)), full_check=True)


def test_an_fp16_file_is_half_the_size_and_does_what_its_export_measured(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    arguments = ["export", str(run), "--precision", "fp16", "--out", str(out), "--json"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["precision"] == "fp16" and found["float_nodes"] == []
    assert found["parity"]["agreement"] == 1 and 0 < found["parity"]["max_abs_diff"] < 0.02
    assert "slower" in result.stderr and result.stderr.count("\n") == 1
    assert out.stat().st_size < 0.55 * (run / "model.onnx").stat().st_size
    assert tledge.verify(out).passed and tledge.Predictor(out).manifest.precision == "fp16"
    assert tledge.Predictor(out)(np.zeros((50, 60, 3), np.uint8))[0].label in ("cat", "dog", "owl")


def test_vectors_without_a_network_have_nothing_to_halve(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    np.savez(tmp_path / "v.npz", x=(rng.normal(size=(40, 6)) + labels[:, None]).astype(np.float32), y=labels)
    trained = tledge.train(tmp_path / "v.npz", tmp_path / "run")
    exported = tledge.export(trained.run, tmp_path / "m.onnx", precision="fp16")
    assert exported.parity.agreement == 1 and exported.parity.max_abs_diff < 1e-3
