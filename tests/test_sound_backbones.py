"""Sounds: the speech embedding against the two graphs it is made of, and networks of one's own that hear."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tledge.backbones import speech_embedding
from tledge.errors import BackboneError, TledgeError
from tledge.schema import Backbone, BackboneOptions, SoundSpec

onnx = pytest.importorskip("onnx", reason="needs the package onnx")
RATE = 16_000
NAME = speech_embedding.NAME
NONE = BackboneOptions()


def sounds(samples: int = RATE) -> np.ndarray:
    """Return float32 [5, samples]: a rising tone in silence, quiet noise, clipped noise, clicks, nothing at all."""
    rng, t = np.random.default_rng(3), np.arange(samples) / RATE
    chirp = 0.4 * np.sin(2 * np.pi * (200 + 900 * t) * t) * (np.abs(t - t.mean()) < 0.2)
    clicks = np.where(np.arange(samples) % 1777 == 0, 0.9, 0)
    rows = [chirp, rng.normal(0, 1e-3, samples), np.clip(rng.normal(0, 1, samples), -1, 1), clicks, np.zeros(samples)]
    return np.stack(rows).astype(np.float32)


def run(model: bytes | Path, **given: np.ndarray) -> np.ndarray:
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"]).run(None, given)[0]


def error(found: np.ndarray, expected: np.ndarray) -> float:
    assert found.shape == expected.shape
    return float((np.abs(found - expected).max(axis=1) / np.abs(expected).max(axis=1)).max())


# ── The speech embedding ─────────────────────────────────────────────────────────────────────────────────────────────


def loaded(cache_dir: Path, **options) -> Backbone:
    return speech_embedding.load(NAME, cache_dir, BackboneOptions(**options), lambda _: None)


def one_after_the_other(rows: np.ndarray) -> np.ndarray:
    """Return [rows, windows, 96] as openWakeWord computes it: 16-bit numbers, one clip, one window at a time."""
    mel, embedding = speech_embedding.read_weights().values()
    found = []
    for row in rows:
        spectrogram = run(mel, input=row[None] * 32768)[0, 0] / 10 + 2
        starts = range(0, len(spectrogram) - 75, 8)
        found.append([run(embedding, input_1=spectrogram[None, i : i + 76, :, None])[0, 0, 0] for i in starts])
    return np.array(found)


@pytest.mark.parametrize(
    ("pool", "window_s", "dimension"),
    [
        (None, None, 288),
        ("avg", None, 96),
        ("max", 0.9, 96),
        (None, 0.79, 96),
        ("flatten", 1.7, 12 * 96),
        (None, 1.7, 96),
    ],
)
def test_the_joined_graph_gives_what_the_two_give_one_after_the_other(tmp_path, pool, window_s, dimension):
    backbone = loaded(tmp_path, pool=pool, window_s=window_s)
    rows = sounds(backbone.preprocess.samples)
    expected = one_after_the_other(rows)
    averaged = pool or ("flatten" if (window_s or 1) <= 1.5 else "avg")
    expected = {"avg": expected.mean(1), "max": expected.max(1), "flatten": expected.reshape(5, -1)}[averaged]
    assert backbone.dimension == dimension
    assert error(run(backbone.path, audio=rows), expected) <= 1e-4


def test_a_row_depends_on_its_own_sound(tmp_path):
    backbone, rows = loaded(tmp_path), sounds()
    together = run(backbone.path, audio=rows)
    assert error(np.concatenate([run(backbone.path, audio=row[None]) for row in rows]), together) <= 1e-5
    # Were the loudest of the batch to bound the quietest, as in the original, the quiet noise would change beside it.
    assert error(run(backbone.path, audio=rows[[1, 1]])[:1], together[1:2]) <= 1e-5


def test_the_window_and_hop_are_those_asked_for_and_the_graph_is_kept(tmp_path):
    told: list[str] = []
    options = BackboneOptions(window_s=1.25, hop_s=0.5)
    first = speech_embedding.load(NAME, tmp_path, options, told.append)
    assert first.preprocess == SoundSpec(RATE, 20_000, 8_000)
    again = speech_embedding.load(NAME, tmp_path, BackboneOptions(window_s=1.25), told.append)
    assert (again.digest, again.preprocess.hop, len(told)) == (first.digest, 0, 1)
    first.path.write_bytes(b"damaged")
    assert speech_embedding.load(NAME, tmp_path, options, told.append).digest == first.digest
    assert len(told) == 2


@pytest.mark.parametrize(
    "options",
    [
        {"window_s": 0.78}, {"window_s": 0.0}, {"window_s": -1.0}, {"window_s": float("nan")},
        {"window_s": float("inf")}, {"window_s": 61.0}, {"hop_s": 0.0}, {"hop_s": 1.5}, {"hop_s": float("nan")},
        {"pool": "mean"}, {"input_size": 224}, {"mean": (0.0,)}, {"feature": "conv1"}, {"weights": "none"},
        {"channel_order": "bgr"},
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(BackboneError):
        speech_embedding.check(NAME, BackboneOptions(**options))


def test_a_window_shorter_than_one_embedding_says_how_long_it_must_be():
    with pytest.raises(BackboneError, match=r"must be 0\.79 to 60 seconds, but is 0\.5"):
        speech_embedding.check(NAME, BackboneOptions(window_s=0.5))
    speech_embedding.check(NAME, BackboneOptions(window_s=0.79))


def test_what_is_told_of_it_is_so(tmp_path):
    from tledge.backbones.passes import macs

    (info,) = speech_embedding.describe()
    backbone = loaded(tmp_path)
    model = onnx.load(backbone.path)
    layers = [each for each in model.graph.initializer if each.name.startswith("conv")]
    assert info.parameters == sum(int(np.prod(each.dims)) for each in layers)
    assert (info.dimension, info.macs, info.weights_available) == (backbone.dimension, macs.count(model), True)


@pytest.mark.parametrize("content", [None, b"", b"not what was published"])
def test_weights_that_are_not_there_or_damaged_are_one_clear_line(tmp_path, monkeypatch, content):
    models = tmp_path / "openwakeword" / "resources" / "models"
    models.mkdir(parents=True)
    (tmp_path / "openwakeword" / "__init__.py").write_text("raise SystemError('this must not be run')")
    if content is not None:
        for name in speech_embedding.read_weights():
            (models / name).write_bytes(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert speech_embedding.describe()[0].weights_available == (content is not None)
    with pytest.raises(TledgeError, match="not installed" if content is None else "does not match its digest"):
        loaded(tmp_path / "cache")


def test_the_code_of_the_weights_package_is_not_run(tmp_path):
    code = f"""
import sys; from pathlib import Path; from tledge.backbones import speech_embedding
from tledge.schema import BackboneOptions
speech_embedding.load({NAME!r}, Path({str(tmp_path)!r}), BackboneOptions(), print)
assert not [name for name in sys.modules if name.startswith("openwakeword")]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
