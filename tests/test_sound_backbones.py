"""Sounds: the speech embedding against the two graphs it is made of, and networks of one's own that hear."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from sounds import make_words

import tledge
from tledge.backbones import spectrogram, speech_embedding
from tledge.backbones.from_keras import file as keras_file
from tledge.backbones.from_keras.convert import convert
from tledge.backbones.from_onnx import file as onnx_file
from tledge.backbones.registry import check_name
from tledge.backbones.sound_hints import SoundHints
from tledge.errors import BackboneError, TledgeError
from tledge.graph_writer import GraphWriter
from tledge.schema import Backbone, BackboneOptions, SoundSpec, SpectrogramSpec, VectorSpec

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
        (None, None, 9 * 96),
        (None, 1.0, 288),
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
    averaged = pool or ("flatten" if (window_s or 1.5) <= 1.5 else "avg")
    expected = {"avg": expected.mean(1), "max": expected.max(1), "flatten": expected.reshape(5, -1)}[averaged]
    assert backbone.dimension == dimension
    assert error(run(backbone.path, audio=rows), expected) <= 1e-4


def test_a_row_depends_on_its_own_sound(tmp_path):
    backbone = loaded(tmp_path)
    rows = sounds(backbone.preprocess.samples)
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
        {"window_s": float("inf")}, {"window_s": 61.0}, {"hop_s": 0.0}, {"hop_s": 1.6}, {"hop_s": float("nan")},
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


# ── ONNX files of one's own ──────────────────────────────────────────────────────────────────────────────────────────

helper, numpy_helper, FLOAT = onnx.helper, onnx.numpy_helper, onnx.TensorProto.FLOAT
node = helper.make_node
# What YAMNet takes, at a smaller rate and length.
SPECTROGRAM = {"window": 200, "hop": 80, "fft": 256, "bands": 20, "low_hz": 125, "high_hz": 3800, "power": 1}
SPECTROGRAM |= {"log": True, "floor": 0.001}
SOUND = {"rate": 8000, "samples": 4000}
FRAMES = (4000 - 200) // 80 + 1


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.3, shape).astype(np.float32)


def save(path: Path, shape: tuple, nodes: list, sound: dict | None = None, **constants: np.ndarray) -> Path:
    """Write an ONNX file whose nodes read `input` of `shape` and end in the tensor `scores`."""
    inputs = [helper.make_tensor_value_info("input", FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("scores", FLOAT, None)]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if sound is not None:
        helper.set_model_props(model, {"tledge.sound": json.dumps(sound)})
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return path


CLASSIFIER = [
    node("Gemm", ["flat", "wd"], ["m"]),
    node("Softmax", ["m"], ["scores"]),
]


def waveform_network(path: Path, shape: tuple, to_lines: list, sound: dict | None = None) -> Path:
    """Write a network of samples: lines [N, 1, samples] → Conv, Relu, average → classifier."""
    nodes = [
        *to_lines,
        node("Conv", ["lines", "w"], ["c"], strides=[50]),
        node("Relu", ["c"], ["r"]),
        node("GlobalAveragePool", ["r"], ["p"]),
        node("Flatten", ["p"], ["flat"]),
        *CLASSIFIER,
    ]
    return save(path, shape, nodes, sound, w=weights(6, 1, 100), wd=weights(6, 3), one=np.array([1]))


def spectrogram_network(path: Path, shape: tuple, to_maps: list, sound: dict | None = None) -> Path:
    """Write a network of maps [N, 1, frames, bands]: whether it is given them right shows in every number."""
    nodes = [*to_maps, node("Conv", ["maps", "w"], ["c"], strides=[1, 2]), node("Relu", ["c"], ["r"])]
    nodes += [node("GlobalAveragePool", ["r"], ["p"]), node("Flatten", ["p"], ["flat"]), *CLASSIFIER]
    constants = {"w": weights(6, 1, 3, 5), "wd": weights(6, 3), "one": np.array([1]), "last": np.array([3])}
    return save(path, shape, nodes, sound, **constants)


def flat_of(path: Path, inputs: np.ndarray) -> np.ndarray:
    model = onnx.load(path)
    model.graph.output.append(helper.make_tensor_value_info("flat", FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["flat"], {"input": inputs})[0]


def short_sounds(samples: int = 4000) -> np.ndarray:
    return sounds(samples)[:4]


def mel_spectrogram(rows: np.ndarray) -> np.ndarray:
    """Return [N, frames, bands] of SPECTROGRAM, frame by frame and band by band, straight from its definition."""
    edges = np.linspace(*(1127 * np.log(1 + hz / 700) for hz in (125, 3800)), 22)
    mel = 1127 * np.log(1 + np.arange(129) * 8000 / 256 / 700)
    triangles = np.array([np.interp(mel, edges[i : i + 3], [0, 1, 0]) for i in range(20)])
    triangles[:, 0] = 0
    hann = np.sin(np.pi * np.arange(200) / 200) ** 2
    frames = np.stack([rows[:, start : start + 200] for start in range(0, 4000 - 199, 80)], axis=1)
    return np.log(np.abs(np.fft.rfft(frames * hann, 256)) @ triangles.T + 1e-3).astype(np.float32)


def test_a_network_of_samples_hears_when_something_says_so(tmp_path):
    lines = [node("Unsqueeze", ["input", "one"], ["lines"])]
    plain = waveform_network(tmp_path / "plain.onnx", ("N", 4000), lines)
    said = waveform_network(tmp_path / "said.onnx", ("N", 4000), lines, SOUND)
    beside = waveform_network(tmp_path / "beside.onnx", ("N", 4000), lines)
    (tmp_path / "beside.json").write_text(json.dumps({"sound": {"rate": 8000}}))
    rows = short_sounds()

    assert onnx_file.load(plain, tmp_path).preprocess == VectorSpec(4000)
    for path in (said, beside):
        backbone = onnx_file.load(path, tmp_path)
        assert backbone.preprocess == SoundSpec(8000, 4000)
        assert error(run(backbone.path, audio=rows), flat_of(path, rows)) <= 1e-5
    asked = onnx_file.load(plain, tmp_path, BackboneOptions(window_s=0.25, hop_s=0.1))
    assert asked.preprocess == SoundSpec(16_000, 4000, 1600)
    assert "a rate of 16000 Hz" in asked.assumed


def test_a_network_of_scaled_samples_in_a_channel_of_its_own(tmp_path):
    path = waveform_network(tmp_path / "n.onnx", ("N", 1, 4000), [node("Identity", ["input"], ["lines"])], SOUND)
    backbone, rows = onnx_file.load(path, tmp_path, BackboneOptions(std=(1 / 32768,))), short_sounds()
    assert backbone.preprocess.std == 1 / 32768
    assert error(run(backbone.path, audio=rows), flat_of(path, 32768 * rows[:, None])) <= 1e-5


def test_a_network_of_one_sound_at_a_time_takes_any_number(tmp_path):
    """Frames [frames, 1, 400] of one clip, each its features, as YAMNet gives them: they are averaged."""
    nodes = [
        node("Reshape", ["input", "cut"], ["lines"]),
        node("Conv", ["lines", "w"], ["c"], strides=[50]),
        node("Relu", ["c"], ["r"]),
        node("GlobalAveragePool", ["r"], ["p"]),
        node("Flatten", ["p"], ["flat"]),
        *CLASSIFIER,
    ]
    constants = {"cut": np.array([-1, 1, 400]), "w": weights(6, 1, 100), "wd": weights(6, 3)}
    path = save(tmp_path / "n.onnx", ("samples",), nodes, SOUND, **constants)
    backbone, rows = onnx_file.load(path, tmp_path), short_sounds()
    expected = np.stack([flat_of(path, row).mean(0) for row in rows])
    assert (backbone.preprocess, backbone.dimension) == (SoundSpec(8000, 4000), 6)
    assert "the features, 10 × 6, pooled by avg" in backbone.assumed
    assert error(run(backbone.path, audio=rows), expected) <= 1e-5
    assert error(run(backbone.path, audio=rows[1:2]), expected[1:2]) <= 1e-5


def as_is(maps: np.ndarray) -> np.ndarray:
    return maps


LAYOUTS = {
    "frames, bands": (("N", FRAMES, 20), [node("Unsqueeze", ["input", "one"], ["maps"])], as_is),
    "any frames, bands": (("N", "frames", 20), [node("Unsqueeze", ["input", "one"], ["maps"])], as_is),
    "bands, frames": (
        ("N", 20, FRAMES),
        [node("Transpose", ["input"], ["t"], perm=[0, 2, 1]), node("Unsqueeze", ["t", "one"], ["maps"])],
        lambda maps: maps.swapaxes(1, 2),
    ),
    "one, frames, bands": (("N", 1, FRAMES, 20), [node("Identity", ["input"], ["maps"])], lambda maps: maps[:, None]),
    "one, bands, frames": (
        (1, 1, 20, FRAMES),
        [node("Transpose", ["input"], ["maps"], perm=[0, 1, 3, 2])],
        lambda maps: maps[:, None].swapaxes(2, 3),
    ),
    "frames, bands, one": (
        ("N", FRAMES, 20, 1),
        [node("Transpose", ["input"], ["maps"], perm=[0, 3, 1, 2])],
        lambda maps: maps[..., None],
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_spectrogram_is_computed_in_the_graph_in_the_order_that_the_network_takes(tmp_path, layout):
    shape, to_maps, arranged = LAYOUTS[layout]
    sound = {"rate": 8000, "window_s": 0.5, "spectrogram": SPECTROGRAM, "mean": -2, "std": 4.5}
    path = spectrogram_network(tmp_path / "n.onnx", shape, to_maps, sound)
    backbone, rows = onnx_file.load(path, tmp_path), short_sounds()
    maps = arranged((mel_spectrogram(rows) + 2) / 4.5)
    expected = np.concatenate([flat_of(path, each[None]) for each in maps])
    assert backbone.preprocess.spectrogram == SpectrogramSpec(**SPECTROGRAM)
    assert error(run(backbone.path, audio=rows), expected) <= 1e-4
    assert not backbone.assumed[1:], "everything was said but where the features are"


@pytest.mark.parametrize(
    "change", [{"power": 2}, {"bands": 0}, {"bands": 0, "power": 2, "log": False}, {"log": False}, {"fft": 200}]
)
def test_every_kind_of_spectrogram_is_what_numpy_computes(change):
    spec, rows, graph = SpectrogramSpec(**SPECTROGRAM | change), short_sounds(), GraphWriter()
    made = spectrogram.add_spectrogram(graph, "audio", spec, 8000)
    shape = ["N", spectrogram.bands(spec), 1, spectrogram.frames(spec, 4000)]
    found = run(
        graph.model("s", [("audio", np.float32, ["N", 4000])], [(made, np.float32, shape)]).SerializeToString(),
        audio=rows,
    )
    expected = spectrogram.compute(rows.astype(np.float64), spec, 8000)
    assert np.abs(found[:, :, 0].swapaxes(1, 2) - expected).max() <= 2e-4 * np.abs(expected).max()


def test_what_nobody_said_of_a_spectrogram_is_told(tmp_path):
    to_maps = [node("Unsqueeze", ["input", "one"], ["maps"])]
    path = spectrogram_network(tmp_path / "n.onnx", ("N", 96, 64), to_maps, {})
    backbone = onnx_file.load(path, tmp_path)
    assert backbone.preprocess == SoundSpec(16_000, 15_600, spectrogram=SpectrogramSpec(400, 160, 512))
    told = "; ".join(backbone.assumed)
    for said in ("16000 Hz", "25 ms", "every 10 ms", "64 mel bands", "log magnitudes to the power 1", "125 to 7500 Hz"):
        assert said in told


def refusal(path: Path, cache: Path, **options) -> str:
    with pytest.raises(BackboneError) as caught:
        onnx_file.load(path, cache, BackboneOptions(**options))
    return str(caught.value)


@pytest.mark.parametrize(
    ("sound", "what"),
    [
        ([], "must be an object"), ({"rates": 8000}, "unknown key 'rates'"), ({"rate": "8000"}, "rate in"),
        ({"rate": 0}, "rate in"), ({"rate": True}, "rate in"), ({"samples": 10**9}, "samples in"),
        ({"samples": 16.5}, "samples in"), ({"window_s": -1}, "window_s in"), ({"window_s": 1e9}, "up to 60 seconds"),
        ({"std": 0}, "std in"), ({"spectrogram": 5}, "must be an object"), ({"spectrogram": {"hops": 1}}, "'hops'"),
        ({"spectrogram": {"hop": 0}}, "hop in"), ({"spectrogram": {"power": 3}}, "power in"),
        ({"spectrogram": {"log": 1}}, "log in"), ({"spectrogram": {"floor": 0}}, "floor in"),
        ({"spectrogram": {"window": 512, "fft": 256}}, "fft of at least"), ({"rate": 8000}, "between 0 and 4000 Hz"),
        ({"spectrogram": {"low_hz": 900, "high_hz": 90}}, "900 to 90"), ({"samples": 200}, "one frame of 400"),
        ({"samples": 16_000}, "which are not 98 × 64"), ({"spectrogram": {"bands": 40}}, "which are not"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_clear_line(tmp_path, sound, what):
    to_maps = [node("Unsqueeze", ["input", "one"], ["maps"])]
    path = spectrogram_network(tmp_path / "n.onnx", ("N", 96, 64), to_maps)
    (tmp_path / "n.json").write_text(json.dumps({"sound": sound}))
    assert what in refusal(path, tmp_path)


def test_options_of_pictures_and_inputs_that_are_no_sound_are_refused(tmp_path):
    lines = [node("Unsqueeze", ["input", "one"], ["lines"])]
    path = waveform_network(tmp_path / "n.onnx", ("N", 4000), lines, SOUND)
    assert "means nothing" in refusal(path, tmp_path, input_size=64)
    assert "one number each" in refusal(path, tmp_path, mean=(1.0, 2.0, 3.0))
    assert "hop must be" in refusal(path, tmp_path, hop_s=2.0)
    assert "which are not 2000 samples" in refusal(path, tmp_path, window_s=0.25)
    broken = save(tmp_path / "broken.onnx", ("N", 4000), [node("Relu", ["input"], ["scores"])])
    model = onnx.load(broken)
    helper.set_model_props(model, {"tledge.sound": "{rate"})
    onnx.save(model, broken)
    assert "is no JSON" in refusal(broken, tmp_path)
    five = save(tmp_path / "five.onnx", (1, 2, 3, 4, 5), [node("Relu", ["input"], ["scores"])], SOUND)
    assert "must take sounds" in refusal(five, tmp_path)


def test_a_backbone_of_pictures_has_no_window():
    with pytest.raises(BackboneError, match="windows and hops are those of sounds"):
        check_name("efficientnet_lite0", BackboneOptions(window_s=1.0))


# ── Keras files of one's own ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def keras():
    from tledge.backbones.from_keras.convert import import_keras

    return import_keras()


def keras_network(keras, shape: tuple, kernel: int | tuple) -> object:
    """Return a network of `shape`: convolution, normalisation, average, classifier, with weights that all differ."""
    axes = len(shape) - 1
    layers = [
        keras.Input(shape),
        getattr(keras.layers, f"Conv{axes}D")(6, kernel, activation="relu"),
        keras.layers.BatchNormalization(),
        getattr(keras.layers, f"GlobalAveragePooling{axes}D")(name="mean"),
        keras.layers.Dense(3, activation="softmax"),
    ]
    network = keras.Sequential(layers)
    rng = np.random.default_rng(5)
    network.set_weights([rng.uniform(0.1, 0.5, each.shape) for each in network.get_weights()])
    return network


def test_a_keras_file_of_spectrograms_is_given_them(tmp_path, keras):
    network = keras_network(keras, (None, 20, 1), (3, 5))
    network.save(tmp_path / "n.keras")
    sound = SOUND | {"spectrogram": SPECTROGRAM}
    (tmp_path / "n.json").write_text(json.dumps({"sound": sound, "mean": -2, "std": 4.5}))
    backbone, rows = keras_file.load(tmp_path / "n.keras", tmp_path), short_sounds()
    given = ((mel_spectrogram(rows) + 2) / 4.5)[..., None]
    expected = keras.Model(network.inputs[0], network.get_layer("mean").output)(given)
    assert backbone.preprocess == SoundSpec(8000, 4000, spectrogram=SpectrogramSpec(**SPECTROGRAM), mean=-2.0, std=4.5)
    assert error(run(backbone.path, audio=rows), np.asarray(expected)) <= 1e-4
    names = [each.name for each in onnx.load(backbone.path).graph.node]
    assert names[0].startswith(spectrogram.PREFIX)


@pytest.mark.parametrize("frames", [FRAMES, None])
def test_a_network_that_hears_is_tuned_whole(tmp_path, keras, frames):
    keras_network(keras, (frames, 20, 1), (3, 5)).save(tmp_path / "n.keras")
    sound = SOUND | {"spectrogram": SPECTROGRAM}
    (tmp_path / "n.json").write_text(json.dumps({"sound": sound, "mean": -2, "std": 4.5}))
    words = make_words(tmp_path / "words", ("down", "up"), 6, seconds=0.5)
    run_folder = tmp_path / "run"
    tledge.train(words, run_folder, backbone=str(tmp_path / "n.keras"), unfreeze="all", epochs=2)
    predictor = tledge.Predictor(run_folder / "model.onnx")
    rows = np.stack([predictor.reader.load(path) for path in sorted(words.rglob("*.wav"))[:4]])
    tuned = keras.saving.load_model(run_folder / "network.keras", compile=False)
    expected = tuned.predict(mel_spectrogram(rows)[..., None], verbose=0)
    np.testing.assert_allclose(predictor.run(rows), expected, atol=1e-4)
    with pytest.raises(TledgeError, match="pictures or vectors"):
        tledge.export(run_folder, tmp_path / "model.keras", precision="keras")


def test_a_keras_network_of_samples_hears_what_was_asked(tmp_path, keras):
    network = keras_network(keras, (None, 1), 50)
    options = BackboneOptions(window_s=0.5)
    features, spec, facts = keras_file.prepare(keras, network, options, sound=SoundHints(rate=8000))
    rows = short_sounds()
    expected = keras.Model(network.inputs[0], network.get_layer("mean").output)(rows[..., None])
    assert spec == SoundSpec(8000, 4000)
    assert "samples in -1..1" in facts["assumed"]
    assert error(run(convert(features, spec), audio=rows), np.asarray(expected)) <= 1e-4
    with pytest.raises(BackboneError, match="which are not"):
        keras_file.prepare(keras, keras_network(keras, (900, 1), 50), options, sound=SoundHints(rate=8000))
