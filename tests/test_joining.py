"""Joining: what is shipped holds nothing idle, tells every shape, and gives the bits that it gave before."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnxruntime
import pytest
from conftest import make_backbone, make_head, make_manifest, make_photos, make_samples
from test_onnx_file import save
from typer.testing import CliRunner

import tledge
from tledge import heads
from tledge.backbones.from_onnx import file as onnx_file
from tledge.cli.app import app
from tledge.errors import ModelError
from tledge.modalities import preprocess
from tledge.model import build, halve, layouts, quantize
from tledge.model.join import join
from tledge.model.targets import TARGETS, raise_opset
from tledge.model.tidy import tidy
from tledge.runtime import Predictor
from tledge.schema import Backbone, BackboneOptions, Packaging, Sample, Target

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


# ── Targets ──────────────────────────────────────────────────────────────────────────────────────────────────────────

# What the oldest readers know: onnxruntime 1.12, and TensorRT 8.5 of JetPack 5.
OLDEST_OPSET, OLDEST_IR_VERSION = 17, 8


def newer(backbone: Backbone, opset: int) -> Backbone:
    """Write `backbone` again with a Gelu, which came with operator set 20, at the set `opset`."""
    model = onnx.load(backbone.path)
    relu = next(each for each in model.graph.node if each.op_type == "Relu")
    relu.op_type = "Gelu"
    model.opset_import[0].version = opset
    path = backbone.path.with_name("newer.onnx")
    onnx.save(model, path)
    return replace(backbone, path=path)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_oldest_readers_read_what_is_shipped(precision, samples, tmp_path):
    backbone = backbone_in(precision, samples, tmp_path)
    head = heads.graph(make_head(3), 8)
    expected = run(join(backbone, head), image=pixels(samples, backbone))
    for target in TARGETS:
        packaging = Packaging(target=target)
        content, _ = build(backbone, head, make_manifest(backbone, CLASSES), samples, expected, packaging)
        model = onnx.load_from_string(content)
        assert model.ir_version <= OLDEST_IR_VERSION
        assert [(each.domain, each.version) for each in model.opset_import] == [("", OLDEST_OPSET)]
        path = tmp_path / f"{target}.onnx"
        path.write_bytes(content)
        assert Predictor(path).manifest.target == target
        # An older tledge refuses a key that it does not know.
        said = json.loads(next(each.value for each in model.metadata_props if each.key == "tledge.manifest"))
        assert said.get("target") == (None if target == "any" else target) and "input" not in said


def test_every_target_is_in_the_table_and_knows_what_is_written_for_it():
    assert set(TARGETS) == set(get_args(Target))
    for each in TARGETS.values():
        assert (each.opset, each.ir_version) == (OLDEST_OPSET, OLDEST_IR_VERSION)
        assert each.highest_opset is None or each.highest_opset >= each.opset


def test_an_operator_that_a_target_does_not_know_is_refused_there_and_only_there(samples, tmp_path):
    backbone, head = newer(make_backbone(tmp_path / "graphs"), 20), heads.graph(make_head(3), 8)
    model = join(backbone, head)
    assert model.opset_import[0].version == 20
    expected = run(model, image=pixels(samples, backbone))
    for target in TARGETS:
        arguments = (backbone, head, make_manifest(backbone, CLASSES), samples, expected, Packaging(target=target))
        if target in ("tensorrt", "jetson"):
            with pytest.raises(ModelError, match=r"operator set 19 .*needs 20.*--target any"):
                build(*arguments)
        else:
            assert onnx.load_from_string(build(*arguments)[0]).ir_version <= OLDEST_IR_VERSION


def test_a_head_is_rewritten_for_a_newer_backbone_and_not_just_renamed(tmp_path):
    """ReduceMax has its axes in an attribute up to set 17, in an input from 18 on."""
    backbone, head = newer(make_backbone(tmp_path / "graphs"), 20), heads.graph(make_head(3), 8)
    head.graph.node[-1].output[0] = "rows"
    most = [node("ReduceMax", ["rows"], ["most"], axes=[1]), node("Div", ["rows", "most"], ["probabilities"])]
    head.graph.node.extend(most)
    onnx.checker.check_model(head, full_check=True)
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    np.testing.assert_array_equal(run(tidy(join(backbone, head)), image=images).max(axis=1), 1)


def test_what_cannot_be_brought_to_a_newer_set_is_named():
    head = heads.graph(make_head(3), 8)
    with pytest.raises(ModelError, match="operator set 17 and cannot be brought to 1000"):
        raise_opset(head, 1000)


# ── Batches of one size ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("batch", [1, 3, 64])
def test_a_fixed_batch_shows_only_in_the_graph(precision, batch, samples, tmp_path):
    backbone, head = backbone_in(precision, samples, tmp_path), heads.graph(make_head(3), 8)
    images = pixels(samples, backbone)
    expected = run(join(backbone, head), image=images)
    manifest = make_manifest(backbone, CLASSES)
    content, check = build(backbone, head, manifest, samples, expected, Packaging(batch=batch))
    assert check.passed and check.max_abs_diff < 1e-6
    model = onnx.load_from_string(content)
    for each in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        assert all(dim.dim_value > 0 for dim in each.type.tensor_type.shape.dim), each.name
    path = tmp_path / "fixed.onnx"
    path.write_bytes(content)
    predictor = Predictor(path)
    assert predictor.session.get_inputs()[0].shape[0] == batch and tledge.verify(path).passed
    for count in (1, 2, 3, 4, 18):  # less than a batch, whole ones, and some over
        np.testing.assert_allclose(predictor.run(images[:count]), expected[:count], atol=1e-6)
    assert predictor.run(images[:0]).shape == (0, 3) and predictor([]) == []
    assert len(predictor([sample.path for sample in samples])) == 18
    assert predictor.at_once % batch == 0 and predictor.at_once >= 16  # no batch is filled up but the last


def test_triton_is_told_of_a_fixed_batch(samples, tmp_path):
    backbone, head = make_backbone(tmp_path / "graphs"), heads.graph(make_head(3), 8)
    expected = run(join(backbone, head), image=pixels(samples, backbone))
    manifest = make_manifest(backbone, CLASSES)
    content, _ = build(backbone, head, manifest, samples, expected, Packaging(batch=4))
    layouts.write(tmp_path / "models", "triton", "m", content, force=False)
    config = (tmp_path / "models/m/config.pbtxt").read_text()
    assert "max_batch_size: 0\n" in config and "dynamic_batching" not in config
    assert "dims: [4, 16, 16, 3]" in config and "dims: [4, 3]" in config
    with pytest.raises(tledge.errors.TledgeError, match="one picture at a time"):
        layouts.write(tmp_path / "site", "onnxruntime-web", "m", content, force=False)


# ── The command ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A run over pictures with a small backbone of a user's own."""
    folder = tmp_path_factory.mktemp("small")
    rng = np.random.default_rng(0)
    constants = {"w1": rng.normal(0, 0.3, (12, 3, 3, 3)).astype(np.float32), "b1": np.zeros(12, np.float32)}
    nodes = [
        node("Conv", ["input", "w1", "b1"], ["c1"], strides=[2, 2]),
        node("Relu", ["c1"], ["r1"]),
        node("GlobalAveragePool", ["r1"], ["p"]),
        node("Flatten", ["p"], ["scores"]),
    ]
    save(folder / "net.onnx", nodes, constants)
    make_photos(folder / "photos", ["cat", "dog", "owl"], 12)
    options = {"mean": (127.0,), "std": (128.0,), "channel_order": "rgb", "feature": "scores"}
    tledge.train(folder / "photos", folder / "run", backbone=str(folder / "net.onnx"), **options)
    return folder / "run"


def command(*words: object) -> tuple[int, Any, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, json.loads(result.stdout) if result.stdout.startswith("{") else None, result.stderr


def test_the_whole_way_of_a_fixed_batch(small_run, tmp_path):
    out, photos = tmp_path / "m.onnx", small_run.parent / "photos"
    words = ("export", small_run, "--out", out, "--batch", 4, "--target", "jetson", "--min-agreement", 0, "--json")
    code, found, _ = command(*words)
    assert code == 0 and (found["batch"], found["target"], found["input"]) == (4, "jetson", "tensor")
    free = tledge.export(small_run, tmp_path / "free.onnx", min_agreement=0)
    assert found["accuracy"] == {"before": free.accuracy.before, "after": free.accuracy.after}
    rows = [tledge.evaluate(each, photos).metrics.accuracy for each in (out, tmp_path / "free.onnx")]
    assert rows[0] == rows[1]
    assert command("verify", out)[0] == 0 and command("predict", out, photos)[0] == 0
    code, found, _ = command("bench", out, "--seconds", 0.2, "--json")
    assert code == 0 and found["scenarios"]["offline"]["samples_per_second"] > 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--target", "jetsno"], "Did you mean jetson?"),
        (["--input", "picture"], "There is no input called 'picture'"),
        (["--batch", "0"], "1 to 1024 samples, got 0"),
        (["--batch", "-3"], "got -3"),
        (["--batch", "100000"], "got 100000"),
        (["--precision", "keras", "--batch", "2"], "for ONNX files"),
        (["--precision", "keras", "--target", "jetson"], "for ONNX files"),
    ],
)
def test_forms_that_cannot_be_are_refused_before_anything_is_read(words, said, tmp_path):
    code, _, error = command("export", tmp_path / "no run", "--out", tmp_path / "m.onnx", *words)
    assert code == 2 and said in error and error.count("\n") == 1
