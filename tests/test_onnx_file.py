"""ONNX files of the user's own become backbones that give what the network in the file gives, or are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from tledge.backbones.from_onnx import file as onnx_file
from tledge.errors import BackboneError
from tledge.schema import Backbone, BackboneOptions, PreprocessSpec, VectorSpec

onnx = pytest.importorskip("onnx", reason="needs the package onnx")
TensorProto, helper, numpy_helper = onnx.TensorProto, onnx.helper, onnx.numpy_helper
node = helper.make_node
SIZE = 16
RGB = BackboneOptions(mean=(0.0,), std=(1.0,), channel_order="rgb")
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.3, shape).astype(np.float32)


def save(
    path: Path,
    nodes: list[Any],
    constants: dict[str, np.ndarray],
    *,
    shape: tuple[Any, ...] = ("batch", 3, SIZE, SIZE),
    kind: int = TensorProto.FLOAT,
    outputs: tuple[str, ...] = ("scores",),
    opset: int = 17,
    ir_version: int = 8,
    others: tuple[Any, ...] = (),
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write the ONNX file of `nodes`, which read `input` of `shape` and the `constants`; returns `path`."""
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    inputs = [helper.make_tensor_value_info("input", kind, shape), *others]
    if ir_version < 4:  # these had to list their weights as inputs
        inputs += [helper.make_tensor_value_info(each.name, each.data_type, each.dims) for each in initializers]
    result = kind if kind == TensorProto.FLOAT16 else TensorProto.FLOAT
    results = [helper.make_tensor_value_info(name, result, None) for name in outputs]
    graph = helper.make_graph(nodes, "g", inputs, results, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    helper.set_model_props(model, metadata or {})
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return path


TRUNK = [
    node("Conv", ["input", "w1", "b1"], ["c1"], "first", strides=[2, 2], pads=[1, 1, 1, 1]),
    node("Relu", ["c1"], ["r1"], "relu"),
]
TRUNK_CONSTANTS = {"w1": weights(8, 3, 3, 3), "b1": weights(8, seed=1)}
POOLED = [*TRUNK, node("GlobalAveragePool", ["r1"], ["p"], "gap"), node("Flatten", ["p"], ["flat"], "flat")]
DENSE = {"wd": weights(8, 5, seed=2), "bd": weights(5, seed=3)}
WITH_DENSE = TRUNK_CONSTANTS | DENSE

# Every way to end, and the tensor that its features are.
ENDINGS: dict[str, tuple[list[Any], dict[str, np.ndarray], str]] = {
    "gemm": ([*POOLED, node("Gemm", ["flat", "wd", "bd"], ["scores"])], DENSE, "flat"),
    "dropout": (
        [*POOLED, node("Dropout", ["flat"], ["d"]), node("Gemm", ["d", "wd", "bd"], ["scores"])],
        DENSE,
        "flat",
    ),
    "matmul, add and softmax": (
        [
            *POOLED,
            node("MatMul", ["flat", "wd"], ["m"]),
            node("Add", ["m", "bd"], ["a"]),
            node("Softmax", ["a"], ["scores"]),
        ],
        DENSE,
        "flat",
    ),
    "transposed weights": (
        [
            *POOLED,
            node("Transpose", ["wt"], ["w"], perm=[1, 0]),
            node("MatMul", ["flat", "w"], ["m"]),
            node("Sigmoid", ["m"], ["scores"]),
        ],
        {"wt": weights(5, 8)},
        "flat",
    ),
    "convolution behind pooling": (
        [
            *POOLED[:3],
            node("Conv", ["p", "wc"], ["s"]),
            node("Reshape", ["s", "shape"], ["scores"]),
        ],
        {"wc": weights(5, 8, 1, 1), "shape": np.array([-1, 5])},
        "r1",
    ),
    "convolution before pooling": (
        [
            *TRUNK,
            node("Conv", ["r1", "wc"], ["s"]),
            node("Relu", ["s"], ["sr"]),
            node("ReduceMean", ["sr"], ["mean"], axes=[2, 3], keepdims=0),
            node("LogSoftmax", ["mean"], ["scores"]),
        ],
        {"wc": weights(5, 8, 1, 1)},
        "r1",
    ),
    "no classifier": ([*POOLED[:3], node("Squeeze", ["p", "axes"], ["scores"])], {"axes": np.array([2, 3])}, "r1"),
    "hidden layer": (
        [*POOLED, node("Gemm", ["flat", "wd", "bd"], ["g"]), node("Relu", ["g"], ["scores"])],
        DENSE,
        "scores",
    ),
    "embedding": ([*POOLED, node("Gemm", ["flat", "we"], ["scores"])], {"we": weights(8, 128)}, "scores"),
}


def images(size: int = SIZE, count: int = 4) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def features(backbone: Backbone, inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(backbone.path, providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == [backbone.preprocess.kind]
    assert [value.shape for value in session.get_outputs()] == [["N", backbone.dimension]]
    (found,) = session.run(["features"], {backbone.preprocess.kind: inputs})
    assert found.dtype == np.float32
    return found


def tensor(path: Path, name: str, inputs: np.ndarray) -> np.ndarray:
    """Return what onnxruntime computes for the tensor `name` of the file, one input at a time; maps averaged."""
    model = onnx.load(path)
    if name not in {value.name for value in model.graph.output}:
        model.graph.output.append(helper.make_empty_tensor_value_info(name))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rows = np.concatenate([session.run([name], {"input": each[None]})[0] for each in inputs])
    return rows if rows.ndim == 2 else rows.mean(axis=(2, 3))


def planes(pictures: np.ndarray) -> np.ndarray:
    return pictures.transpose(0, 3, 1, 2).astype(np.float32)


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_cut_is_found(tmp_path, ending):
    nodes, constants, expected = ENDINGS[ending]
    path = save(tmp_path / "net.onnx", nodes, TRUNK_CONSTANTS | constants)
    backbone = onnx_file.load(path, tmp_path / "cache", RGB)
    np.testing.assert_allclose(
        features(backbone, images()), tensor(path, expected, planes(images())), rtol=1e-4, atol=1e-3
    )
    assert [fact for fact in backbone.assumed if fact.startswith("features are")] == list(backbone.assumed)[:1]


def test_a_node_or_tensor_can_be_named_and_pooled(tmp_path):
    path = save(tmp_path / "net.onnx", *ENDINGS["gemm"][:1], WITH_DENSE)
    pixels = planes(images())
    mean = tensor(path, "c1", pixels)
    for feature, pool, expected in (
        ("first", None, mean),
        ("c1", "avg", mean),
        ("flat", None, tensor(path, "p", pixels)),
    ):
        options = BackboneOptions(mean=(0.0,), std=(1.0,), channel_order="rgb", feature=feature, pool=pool)
        backbone = onnx_file.load(path, tmp_path / "cache", options)
        np.testing.assert_allclose(features(backbone, images()), expected, rtol=1e-4, atol=1e-3)
        pooled = ("the features, 8 × 8 × 8, pooled by avg",) if feature == "first" else ()
        assert backbone.assumed == pooled
    flat = onnx_file.load(path, tmp_path / "cache", BackboneOptions(feature="first", pool="flatten"))
    assert flat.dimension == 8 * 8 * 8


def test_asking_for_a_pool_takes_the_map_before_the_average(tmp_path):
    path = save(tmp_path / "net.onnx", *ENDINGS["gemm"][:1], WITH_DENSE)
    largest = onnx_file.load(path, tmp_path / "cache", BackboneOptions(pool="max", mean=(0.0,), std=(1.0,)))
    average = onnx_file.load(path, tmp_path / "cache", RGB)
    assert largest.dimension == average.dimension == 8
    assert (features(largest, images()) > features(average, images())).all()


def test_an_unknown_node_is_answered_with_the_nearest(tmp_path):
    path = save(tmp_path / "net.onnx", *ENDINGS["gemm"][:1], WITH_DENSE)
    with pytest.raises(BackboneError, match=r"no node or tensor called 'frist'.*Did you mean first\?"):
        onnx_file.load(path, tmp_path / "cache", BackboneOptions(feature="frist"))


def test_several_outputs_ask_for_a_node(tmp_path):
    nodes = [*POOLED, node("Gemm", ["flat", "wd", "bd"], ["scores"]), node("Identity", ["p"], ["other"])]
    path = save(tmp_path / "net.onnx", nodes, WITH_DENSE, outputs=("scores", "other"))
    with pytest.raises(BackboneError, match=r"--feature-node.*scores, other"):
        onnx_file.load(path, tmp_path / "cache")
    assert onnx_file.load(path, tmp_path / "cache", BackboneOptions(feature="flat")).dimension == 8


MEAN, STD = (104.0, 117.0, 123.0), (50.0, 60.0, 70.0)  # in the network's order


@pytest.mark.parametrize("first", ["convolution", "other"])
@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("layout", ["first", "last", "last, transposed"])
def test_layout_order_and_normalisation_are_part_of_the_graph(tmp_path, layout, order, first):
    source, nodes = "input", []
    if layout == "last, transposed":
        nodes, source = [node("Transpose", [source], ["t"], perm=[0, 3, 1, 2])], "t"
    elif layout == "last":  # something stands before the transpose
        nodes = [node("Abs", [source], ["a"]), node("Transpose", ["a"], ["t"], perm=[0, 3, 1, 2])]
        source = "t"
    if first == "other":
        nodes, source = [*nodes, node("Neg", [source], ["n"])], "n"
    nodes += [node("Conv", [source, "w1", "b1"], ["c1"], strides=[2, 2], pads=[1, 1, 1, 1]), *ENDINGS["gemm"][0][1:]]
    shape = ("N", 3, SIZE, SIZE) if layout == "first" else ("N", SIZE, SIZE, 3)
    path = save(tmp_path / "net.onnx", nodes, WITH_DENSE, shape=shape)
    options = BackboneOptions(mean=MEAN, std=STD, channel_order=order)
    backbone = onnx_file.load(path, tmp_path / "cache", options)
    step = -1 if order == "bgr" else 1
    assert backbone.preprocess == PreprocessSpec(SIZE, SIZE, mean=MEAN[::step], std=STD[::step])
    taken = ((images()[..., ::step] - np.array(MEAN)) / np.array(STD)).astype(np.float32)
    taken = taken if layout != "first" else np.ascontiguousarray(taken.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(features(backbone, images()), tensor(path, "flat", taken), rtol=1e-4, atol=1e-5)
    if layout != "last":
        operators = [each.op_type for each in onnx.load(backbone.path).graph.node]
        assert operators[:4] == ["Transpose", "Cast", "Sub", "Mul"]
        assert ("Gather" in operators) == (first == "other" and order == "bgr")


@pytest.mark.parametrize("first", ["Conv", "Neg"])
def test_a_network_for_grey_pictures_gets_their_luma(tmp_path, first):
    nodes = [node("Neg", ["input"], ["n"])] if first == "Neg" else []
    nodes += [node("Conv", ["n" if nodes else "input", "w", "b1"], ["c1"], pads=[1, 1, 1, 1]), *ENDINGS["gemm"][0][1:]]
    path = save(tmp_path / "net.onnx", nodes, {**WITH_DENSE, "w": weights(8, 1, 3, 3)}, shape=("N", 1, SIZE, SIZE))
    backbone = onnx_file.load(path, tmp_path / "cache")
    assert any("grey" in fact for fact in backbone.assumed)
    taken = ((images() @ LUMA)[:, None] / 255).astype(np.float32)
    np.testing.assert_allclose(features(backbone, images()), tensor(path, "flat", taken), rtol=1e-4, atol=1e-5)


def test_vectors_go_in_as_vectors(tmp_path):
    nodes = [
        node("Gemm", ["input", "w", "b"], ["h"]),
        node("Relu", ["h"], ["hidden"]),
        node("Gemm", ["hidden", "v"], ["scores"]),
    ]
    constants = {"w": weights(10, 6), "b": weights(6), "v": weights(6, 3)}
    path = save(tmp_path / "net.onnx", nodes, constants, shape=(1, 10))
    vectors = weights(4, 10, seed=7)
    backbone = onnx_file.load(path, tmp_path / "cache")
    assert (backbone.preprocess, backbone.dimension) == (VectorSpec(10), 6)
    np.testing.assert_allclose(features(backbone, vectors), tensor(path, "hidden", vectors), rtol=1e-5, atol=1e-6)
    scaled = onnx_file.load(path, tmp_path / "cache", BackboneOptions(mean=(2.0,), std=(4.0,)))
    assert scaled.preprocess == VectorSpec(10, 2.0, 4.0)
    np.testing.assert_allclose(features(scaled, vectors * 4 + 2), features(backbone, vectors), rtol=1e-4, atol=1e-5)
    with pytest.raises(BackboneError, match="vectors of 10 numbers"):
        onnx_file.load(path, tmp_path / "cache", BackboneOptions(input_size=32))


@pytest.mark.parametrize("batch", [1, 4, "N"])
@pytest.mark.parametrize("target", [[1, 512], [1, -1], [0, -1]], ids=str)
def test_a_fixed_batch_becomes_free(tmp_path, batch, target):
    if target[0] == 1 and batch == "N":
        target = [1, -1]
    else:
        target = [batch if target[0] == 1 else 0, target[1]]
    nodes = [
        *TRUNK,
        node("Reshape", ["r1", "shape"], ["flat"]),
        node("Gemm", ["flat", "w"], ["scores"]),
    ]
    constants = TRUNK_CONSTANTS | {"shape": np.array(target), "w": weights(512, 5)}
    path = save(tmp_path / "net.onnx", nodes, constants, shape=(batch, 3, SIZE, SIZE))
    backbone = onnx_file.load(path, tmp_path / "cache", RGB)
    assert features(backbone, images(count=3)).shape == (3, 512)
    np.testing.assert_allclose(
        features(backbone, images(count=3))[1:2], features(backbone, images(count=3)[1:2]), rtol=1e-5
    )


@pytest.mark.parametrize("computed", [False, True])
def test_the_class_token_of_one_picture_serves_any_number(tmp_path, computed):
    nodes = [
        *TRUNK,
        node("Reshape", ["r1", "shape"], ["map"], allowzero=1),
        node("Transpose", ["map"], ["tokens"], perm=[0, 2, 1]),
        node("Expand", ["class", "times"], ["token"]),
        node("Concat", ["token" if computed else "class", "tokens"], ["all"], axis=1),
        node("Gather", ["all", "zero"], ["chosen"], axis=1),
        node("Add", ["chosen", "chosen"], ["twice"]),
        node("ReduceMean", ["all"], ["mean"], axes=[1], keepdims=0),
        node("Add", ["twice", "mean"], ["flat"]),
        node("Gemm", ["flat", "wd", "bd"], ["scores"]),
    ]
    constants = {"shape": np.array([1, 8, 64]), "times": np.array([1, 1, 1]), "zero": np.array(0)}
    constants |= WITH_DENSE | {"class": weights(1, 1, 8)}
    path = save(tmp_path / "net.onnx", nodes, constants, shape=(1, 3, SIZE, SIZE))
    backbone = onnx_file.load(path, tmp_path / "cache", RGB)
    np.testing.assert_allclose(
        features(backbone, images()), tensor(path, "flat", planes(images())), rtol=1e-4, atol=1e-3
    )


@pytest.mark.parametrize("pool", ["avg", "max"])
def test_tokens_are_pooled(tmp_path, pool):
    nodes = [
        *TRUNK,
        node("Reshape", ["r1", "shape"], ["map"]),
        node("Transpose", ["map"], ["tokens"], perm=[0, 2, 1]),
        node("MatMul", ["tokens", "w"], ["scores"]),
    ]
    constants = TRUNK_CONSTANTS | {"shape": np.array([0, 8, 64]), "w": weights(8, 6)}
    path = save(tmp_path / "net.onnx", nodes, constants)
    options = BackboneOptions(mean=(0.0,), std=(1.0,), feature="scores", pool=pool)
    backbone = onnx_file.load(path, tmp_path / "cache", options)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (tokens,) = session.run(None, {"input": planes(images())})
    expected = tokens.mean(axis=1) if pool == "avg" else tokens.max(axis=1)
    np.testing.assert_allclose(features(backbone, images()), expected, rtol=1e-4, atol=1e-3)


def test_a_network_that_mixes_its_pictures_is_refused(tmp_path):
    nodes = [*POOLED, node("ReduceMean", ["flat"], ["all"], axes=[0]), node("Add", ["flat", "all"], ["scores"])]
    path = save(tmp_path / "net.onnx", nodes, TRUNK_CONSTANTS)
    with pytest.raises(BackboneError, match="each picture by itself"):
        onnx_file.load(path, tmp_path / "cache", RGB)


@pytest.mark.parametrize(("opset", "ir_version"), [(7, 3), (9, 4), (13, 7), (18, 8), (21, 10), (22, 10)])
def test_operators_are_brought_to_one_version(tmp_path, opset, ir_version):
    constants = dict(WITH_DENSE)
    nodes = list(ENDINGS["gemm"][0])
    if opset >= 18:  # axes became an input there
        constants["axes"] = np.array([2, 3])
        nodes[2] = node("ReduceMean", ["r1", "axes"], ["p"], noop_with_empty_axes=0)
    path = save(tmp_path / "net.onnx", nodes, constants, opset=opset, ir_version=ir_version)
    backbone = onnx_file.load(path, tmp_path / "cache", RGB)
    made = onnx.load(backbone.path)
    assert ([(each.domain, each.version) for each in made.opset_import], made.ir_version) == ([("", 17)], 8)
    assert [value.name for value in made.graph.input] == ["image"]
    np.testing.assert_allclose(
        features(backbone, images()), tensor(path, "flat", planes(images())), rtol=1e-4, atol=1e-3
    )


def test_an_operator_that_is_new_keeps_its_version(tmp_path):
    nodes = [TRUNK[0], node("Gelu", ["c1"], ["r1"]), *ENDINGS["gemm"][0][2:]]
    path = save(tmp_path / "net.onnx", nodes, WITH_DENSE, opset=20)
    backbone = onnx_file.load(path, tmp_path / "cache", RGB)
    assert onnx.load(backbone.path).opset_import[0].version == 20
    assert any("operator set 20" in fact for fact in backbone.assumed)


def test_half_precision_becomes_float32(tmp_path):
    halves = {name: value.astype(np.float16) for name, value in WITH_DENSE.items()}
    path = save(tmp_path / "net.onnx", ENDINGS["gemm"][0], halves, kind=TensorProto.FLOAT16)
    backbone = onnx_file.load(path, tmp_path / "cache", BackboneOptions(mean=(127.0,), std=(128.0,)))
    assert {each.data_type for each in onnx.load(backbone.path).graph.initializer} == {TensorProto.FLOAT}
    taken = ((planes(images()) - 127) / 128).astype(np.float16)
    np.testing.assert_allclose(features(backbone, images()), tensor(path, "flat", taken), atol=5e-3)


def test_bytes_are_left_to_the_network(tmp_path):
    nodes = [
        node("Cast", ["input"], ["f"], to=TensorProto.FLOAT),
        node("Sub", ["f", "mean"], ["s"]),
        node("Mul", ["s", "scale"], ["x"]),
        node("Conv", ["x", "w1", "b1"], ["c1"]),
        *ENDINGS["gemm"][0][1:],
    ]
    constants = WITH_DENSE | {"mean": np.float32(127), "scale": np.float32(1 / 64)}
    path = save(tmp_path / "net.onnx", nodes, constants, kind=TensorProto.UINT8)
    backbone = onnx_file.load(path, tmp_path / "cache")
    # What stands in the graph, as quantization will ask for it.
    assert (backbone.preprocess.mean, backbone.preprocess.std) == ((127.0,) * 3, (64.0,) * 3)
    pixels = np.ascontiguousarray(images().transpose(0, 3, 1, 2))
    np.testing.assert_allclose(features(backbone, images()), tensor(path, "flat", pixels), rtol=1e-5, atol=1e-6)
    with pytest.raises(BackboneError, match="normalises them itself"):
        onnx_file.load(path, tmp_path / "cache", RGB)


def test_batch_normalisation_is_folded(tmp_path):
    nodes = [
        node("Conv", ["input", "w1"], ["c0"]),
        node("BatchNormalization", ["c0", "gamma", "beta", "mu", "var"], ["c1"]),
        *ENDINGS["gemm"][0][1:],
    ]
    moments = {name: np.abs(weights(8, seed=i)) for i, name in enumerate(("gamma", "beta", "mu", "var"))}
    path = save(tmp_path / "net.onnx", nodes, WITH_DENSE | moments)
    backbone = onnx_file.load(path, tmp_path / "cache", RGB)
    assert "BatchNormalization" not in {each.op_type for each in onnx.load(backbone.path).graph.node}
    np.testing.assert_allclose(
        features(backbone, images()), tensor(path, "flat", planes(images())), rtol=1e-4, atol=1e-3
    )


def test_what_is_known_of_the_pixels_comes_from_options_metadata_and_the_file_beside(tmp_path):
    metadata = {"mean": "[0.5, 0.5, 0.5]", "std": "0.25 0.25 0.25", "channel_order": "BGR"}
    path = save(tmp_path / "net.onnx", ENDINGS["gemm"][0], WITH_DENSE, metadata=metadata, shape=("N", 3, "H", "W"))
    path.with_suffix(".json").write_text(json.dumps({"mean": 1, "std": 2, "input_size": 20}))
    backbone = onnx_file.load(path, tmp_path / "cache", BackboneOptions(std=(10.0, 20.0, 30.0)))
    expected = PreprocessSpec(20, 20, mean=(127.5,) * 3, std=(30.0, 20.0, 10.0))
    assert backbone.preprocess == expected
    assert [fact[:12] for fact in backbone.assumed] == ["features are"]


def test_what_nobody_said_is_told(tmp_path):
    path = save(tmp_path / "net.onnx", ENDINGS["gemm"][0], WITH_DENSE, shape=("N", 3, "H", "W"))
    backbone = onnx_file.load(path, tmp_path / "cache")
    assert (backbone.preprocess.height, backbone.preprocess.mean) == (224, (123.675, 116.28, 103.53))
    told = " ".join(backbone.assumed)
    assert all(words in told for words in ("224 × 224", "ImageNet", "RGB", "Gemm 'scores'"))


def test_the_result_is_kept_and_the_same_each_time(tmp_path):
    path = save(tmp_path / "my net [1].onnx", ENDINGS["gemm"][0], WITH_DENSE)
    stages: list[str] = []
    first = onnx_file.load(path, tmp_path / "a", RGB, stages.append)
    again = onnx_file.load(path, tmp_path / "a", RGB, stages.append)
    elsewhere = onnx_file.load(path, tmp_path / "b", RGB)
    assert (first, len(stages)) == (again, 1)
    assert first.digest == elsewhere.digest
    path.with_suffix(".json").write_text(json.dumps({"mean": 9}))
    assert onnx_file.load(path, tmp_path / "a", BackboneOptions(std=(1.0,))).preprocess.mean == (9.0, 9.0, 9.0)


def refusal(path: Path, options: BackboneOptions | None = None) -> str:
    with pytest.raises(BackboneError) as refused:
        onnx_file.load(path, path.parent / "cache", options)
    assert "\n" not in str(refused.value)
    assert not (path.parent / "cache").exists()
    return str(refused.value)


def changed(path: Path, change: Any) -> Path:
    """Write a good network to `path`, after `change` was done to the model; returns `path`."""
    save(path, ENDINGS["gemm"][0], WITH_DENSE)
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("content", [b"", b"not a network", b"\x08\x08"], ids=["empty", "text", "no graph"])
def test_what_is_no_network_is_refused(tmp_path, content):
    (tmp_path / "net.onnx").write_bytes(content)
    refusal(tmp_path / "net.onnx")


def test_a_file_that_was_cut_short_is_refused(tmp_path):
    path = save(tmp_path / "net.onnx", ENDINGS["gemm"][0], WITH_DENSE)
    path.write_bytes(path.read_bytes()[:-100])
    refusal(path)


def test_names_that_are_no_text_are_refused(tmp_path):
    path = save(tmp_path / "net.onnx", ENDINGS["gemm"][0], WITH_DENSE)
    path.write_bytes(path.read_bytes().replace(b"flat", b"fl\xfft"))
    assert "UTF-8" in refusal(path)


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_file_is_refused_or_still_a_network(tmp_path, seed):
    path = save(tmp_path / "net.onnx", ENDINGS["matmul, add and softmax"][0], WITH_DENSE)
    rng, data = np.random.default_rng(seed), bytearray(path.read_bytes())
    for place in rng.integers(0, len(data), 3):
        data[place] = rng.integers(256)
    path.write_bytes(data)
    try:
        onnx_file.load(path, tmp_path / "cache", RGB)
    except BackboneError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("place", ["../../secret", "/etc/hostname", "weights.bin"])
def test_weights_in_other_files_are_refused_unread(tmp_path, place):
    def point_elsewhere(model: Any) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=place)

    (tmp_path / "weights.bin").write_bytes(bytes(4 * 8 * 27))
    message = refusal(changed(tmp_path / "net.onnx", point_elsewhere))
    assert "lies in another file" in message


def test_weights_of_a_constant_node_in_other_files_are_refused(tmp_path):
    def add_constant(model: Any) -> None:
        tensor = TensorProto(name="c", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="../x")
        model.graph.node.insert(0, node("Constant", [], ["c"], value=tensor))

    assert "lies in another file" in refusal(changed(tmp_path / "net.onnx", add_constant))


@pytest.mark.parametrize("domain", ["custom", "com.microsoft"])
def test_operators_of_other_domains_are_refused(tmp_path, domain):
    def add_operator(model: Any) -> None:
        model.graph.node[1].domain = domain
        model.opset_import.add(domain=domain, version=1)

    assert repr(domain) in refusal(changed(tmp_path / "net.onnx", add_operator))


def test_functions_of_the_files_own_are_refused(tmp_path):
    def add_function(model: Any) -> None:
        body = [node("Relu", ["x"], ["y"])]
        model.functions.append(helper.make_function("mine", "F", ["x"], ["y"], body, [helper.make_opsetid("", 17)]))

    assert "operators of its own (F)" in refusal(changed(tmp_path / "net.onnx", add_function))


def test_a_branch_on_the_way_to_the_features_is_refused_and_behind_them_is_not(tmp_path):
    def branch(name: str) -> Any:
        inner = helper.make_graph(
            [node("Identity", [name], ["inner"])], "b", [], [helper.make_tensor_value_info("inner", 1, None)]
        )
        return node("If", ["yes"], ["branched"], "branch", then_branch=inner, else_branch=inner)

    constants = WITH_DENSE | {"yes": np.array(True)}
    after = [
        *POOLED,
        node("Gemm", ["flat", "wd", "bd"], ["s"]),
        branch("s"),
        node("Add", ["branched", "s"], ["scores"]),
    ]
    path = save(tmp_path / "after.onnx", after, constants)
    assert "If" in refusal(path)
    assert onnx_file.load(path, tmp_path / "cache", BackboneOptions(feature="flat")).dimension == 8


def test_inputs_beyond_the_picture_are_refused_unless_cut_off(tmp_path):
    nodes = [*POOLED, node("Gemm", ["flat", "wd", "bd"], ["s"]), node("Add", ["flat", "more"], ["scores"])]
    more = helper.make_tensor_value_info("more", TensorProto.FLOAT, ["batch", 8])
    path = save(tmp_path / "net.onnx", nodes, WITH_DENSE, others=(more,))
    assert "input, more" in refusal(path)
    assert onnx_file.load(path, tmp_path / "cache", BackboneOptions(feature="flat")).dimension == 8


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (3, 8, 8), (1, 3, 8, 8, 8)], ids=str)
def test_what_is_no_picture_is_refused(tmp_path, shape):
    nodes = [node("Relu", ["input"], ["r"]), node("Flatten", ["r"], ["scores"])]
    refusal(save(tmp_path / "net.onnx", nodes, {}, shape=shape))


def test_absurd_sizes_are_refused_before_they_are_computed(tmp_path):
    assert "a side" in refusal(
        save(tmp_path / "net.onnx", *ENDINGS["gemm"][:1], WITH_DENSE, shape=(1, 3, 10**6, 10**6))
    )
    nodes = [
        *POOLED,
        node("Expand", ["flat", "large"], ["e"]),
        node("ReduceMean", ["e"], ["scores"], axes=[0], keepdims=0),
    ]
    path = save(tmp_path / "wide.onnx", nodes, TRUNK_CONSTANTS | {"large": np.array([10**9, 1, 8])})
    assert "would need a tensor" in refusal(path)


def test_a_size_that_the_network_cannot_take_is_one_clear_line(tmp_path):
    nodes = [*TRUNK, node("Flatten", ["r1"], ["flat"]), node("Gemm", ["flat", "w"], ["h"]), *TAIL]
    constants = TRUNK_CONSTANTS | {"w": weights(512, 6), "v": weights(6, 3)}
    path = save(tmp_path / "net.onnx", nodes, constants)
    assert "3 × 32 × 32" in refusal(path, BackboneOptions(input_size=32))


TAIL = [node("Relu", ["h"], ["hr"]), node("Gemm", ["hr", "v"], ["scores"])]


def test_a_classifier_alone_has_no_features(tmp_path):
    path = save(tmp_path / "net.onnx", [node("Gemm", ["input", "wd", "bd"], ["scores"])], DENSE, shape=("N", 8))
    assert "reads the input itself" in refusal(path)


def test_weights_cannot_be_asked_for(tmp_path):
    path = save(tmp_path / "net.onnx", ENDINGS["gemm"][0], WITH_DENSE)
    assert "--weights" in refusal(path, BackboneOptions(weights="none"))
