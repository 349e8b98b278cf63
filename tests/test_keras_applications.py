"""The networks of keras.applications: ONNX against Keras, what may be asked of them, and how graphs are tidied."""

from __future__ import annotations

import collections
import gc
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tledge.backbones import check_name, describe, load
from tledge.backbones.from_keras import application_table
from tledge.backbones.from_keras import applications as keras_applications
from tledge.backbones.from_keras import weights as keras_weights
from tledge.backbones.keras_families import RECIPES
from tledge.errors import BackboneError
from tledge.schema import BackboneOptions, PreprocessSpec, VectorSpec

pytestmark = pytest.mark.skipif(
    any(find_spec(module) is None for module in ("tensorflow", "tf2onnx", "onnx", "onnxruntime")),
    reason="tensorflow, tf2onnx, onnx (extra train) or onnxruntime (extra cpu) is not installed",
)

NAMES = (
    *("vgg16", "vgg19", "resnet50", "resnet50_v2", "inception_v3", "xception", "mobilenet", "mobilenet_v2"),
    *("mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0", "efficientnet_b1", "efficientnet_b2"),
    *("efficientnet_b3", "efficientnet_v2_b0", "densenet121", "nasnet_mobile", "convnext_tiny"),
)
# One of each kind of scaling, of trouble and of pooling; `python -m benchmarks.applications` takes all of them.
CASES = {
    "vgg16": ("vgg16", 64, "flatten"),
    "mobilenet": ("mobilenet", 64, "avg"),
    "efficientnet_b0": ("efficientnet", 64, "avg"),
    "convnext_tiny": ("convnext", 64, "max"),
}
RANDOM_MAX = BackboneOptions(weights="none", pool="max")


@pytest.fixture(scope="module")
def keras():
    from tledge.backbones.from_keras.convert import import_keras

    return import_keras()


def run(model: bytes, **inputs: np.ndarray) -> np.ndarray:
    import onnxruntime

    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, inputs)[0]


def pictures(size: int) -> np.ndarray:
    y, x, c = np.ogrid[:size, :size, :3]
    return np.stack([7 * y + 13 * x + 29 * c + x * y, (x * x + y * y) // 8 + 40 * c]).astype(np.uint8)


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def disturb(model) -> None:
    """A new network has biases of 0 and normalises by 0 and 1, which much of what could go wrong would leave right."""
    rng = np.random.default_rng(5)
    for weight in model.weights:
        if len(weight.shape) == 1:
            weight.assign(weight + rng.uniform(0.0, 0.5, weight.shape))
    for layer in model.layers:
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


def kinds(data: bytes) -> collections.Counter[str]:
    import onnx

    return collections.Counter(node.op_type for node in onnx.load_from_string(data).graph.node)


def test_what_keras_does_without_can_be_imported_after_it(keras):
    import sklearn.svm

    assert sklearn.svm.SVC
    assert sys.modules.get("matplotlib", "not imported") is not None
    assert gc.isenabled()


# ── Against Keras ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", CASES)
def test_features_are_those_of_keras_with_its_own_preprocessing(keras, name, tmp_path):
    from tledge.backbones.from_keras.convert import convert

    module, size, pool = CASES[name]
    application = next(each for each in application_table.APPLICATIONS if each.name == name)
    make, shape = getattr(keras.applications, application.called), (size, size, 3)
    original = make(input_shape=shape, include_top=False, weights=None, pooling=None if pool == "flatten" else pool)
    disturb(original)
    original.save_weights(tmp_path / "their.weights.h5")
    preprocess = getattr(keras.applications, module).preprocess_input
    expected = np.asarray(original(preprocess(pictures(size).astype(np.float32)), training=False)).reshape(2, -1)

    model, spec, _ = keras_applications.network(keras, name, size, pool, str(tmp_path / "their.weights.h5"))
    data = convert(model, spec)

    assert relative_error(run(data, image=pictures(size)), expected) <= 1e-4
    assert application.parameters == sum(int(np.prod(weight.shape)) for weight in original.trainable_weights)
    assert original.output.shape[-1] == application.dimension
    assert_plain(data, name)


def assert_plain(data: bytes, name: str) -> None:
    """Nothing is shuffled around but the pixels at the start, and the map before it is flattened."""
    found = kinds(data)
    assert found["Transpose"] == (2 if CASES[name][2] == "flatten" else 1)
    assert not {"MatMul", "StatefulPartitionedCall", "Erfc", "Shape"} & found.keys()
    assert found["Pad"] == 0
    assert found["Reshape"] <= 1


# ── By name ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def random_small(cache_dir: Path) -> subprocess.CompletedProcess[str]:
    code = f"""
from pathlib import Path
from tledge.backbones import load
from tledge.schema import BackboneOptions
load("mobilenet_v3_small", Path({str(cache_dir)!r}), {RANDOM_MAX!r})
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)


def test_random_weights_are_those_of_a_seed_and_converted_silently(keras, random_small, cache_dir):
    import onnx

    from tledge.backbones.passes import macs

    assert (random_small.stdout, random_small.stderr) == ("", "")
    kept = load("mobilenet_v3_small", cache_dir, RANDOM_MAX, on_stage=pytest.fail)
    assert kept.preprocess == PreprocessSpec(224, 224, mean=(127.5,) * 3, std=(127.5,) * 3)
    assert (kept.dimension, kept.licence) == (576, "")
    assert macs.count(onnx.load(kept.path)) == RECIPES["mobilenet_v3_small"].macs
    keras_weights.seed(keras)
    make = keras.applications.MobileNetV3Small
    original = make(input_shape=(224, 224, 3), include_top=False, pooling="max", weights=None)
    expected = np.asarray(original(pictures(224).astype(np.float32), training=False))
    assert relative_error(run(kept.path.read_bytes(), image=pictures(224)), expected) <= 1e-4


def test_damaged_facts_are_made_again_with_the_same_random_weights(random_small, cache_dir):
    before = load("mobilenet_v3_small", cache_dir, RANDOM_MAX)
    (facts,) = (cache_dir / "backbones").glob("*.json")
    good = facts.read_bytes()
    facts.write_bytes(good.replace(b"576", b"577"))
    told: list[str] = []
    assert load("mobilenet_v3_small", cache_dir, RANDOM_MAX, on_stage=told.append) == before
    assert told == ["converting mobilenet_v3_small to ONNX, once on this machine"]
    assert facts.read_bytes() == good


def test_all_are_listed_with_their_figures():
    listed = {info.name: info for info in describe()}
    assert set(NAMES) <= set(listed)
    for name in NAMES:
        assert min(listed[name].macs, listed[name].parameters, listed[name].dimension) > 0
        assert listed[name].licence
        assert "MB" in listed[name].weights_hint


def test_weights_come_from_where_keras_puts_them(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    by_name = {each.name: each for each in application_table.APPLICATIONS}
    path = application_table.weights_path(by_name["mobilenet_v2"], 96)
    assert path == tmp_path / "models" / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_96_no_top.h5"
    assert application_table.weights_path(by_name["mobilenet"], 100).name == "mobilenet_1_0_224_tf_no_top.h5"
    assert not RECIPES["mobilenet"].weights_available()
    path.parent.mkdir()
    application_table.weights_path(by_name["mobilenet"]).touch()
    assert RECIPES["mobilenet"].weights_available()


def test_without_internet_the_refusal_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    for scheme in ("http_proxy", "https_proxy", "HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(scheme, "http://127.0.0.1:9")  # the discard port: refused at once
    with pytest.raises(BackboneError, match="could not download") as refusal:
        load("mobilenet_v2", tmp_path / "cache")
    assert "\n" not in str(refusal.value)
    assert str(tmp_path) in refusal.value.hint


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("xception", BackboneOptions(input_size=70), "71 to 1024 pixels, but is 70"),
        ("vgg16", BackboneOptions(pool="median"), "no way to pool called 'median'"),
        ("vgg16", BackboneOptions(mean=(127.5,)), "vgg16 has its own mean"),
        ("vgg16", BackboneOptions(channel_order="bgr"), "vgg16 has its own channel order"),
        ("vgg16", BackboneOptions(weights="imagnet"), "no weights file imagnet"),
        ("vgg17", BackboneOptions(), "Did you mean vgg1"),
    ],
)
def test_senseless_options_are_refused_before_anything_happens(name, options, words, tmp_path):
    with pytest.raises(BackboneError, match=words):
        check_name(name, options)
    with pytest.raises(BackboneError, match=words):
        load(name, tmp_path, options)
    assert not list(tmp_path.iterdir())


# ── Weights of the user's own ────────────────────────────────────────────────────────────────────────────────────────


def tiny(keras, width: int = 4):
    return keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Conv2D(width, 3), keras.layers.Flatten()], name="tiny"
    )


@pytest.mark.parametrize("file", ["model.h5", "model.weights.h5"])
def test_weights_are_read_in_either_form_whatever_the_name(keras, file, tmp_path):
    theirs, ours = tiny(keras), tiny(keras)
    old = file == "model.h5"
    theirs.save(tmp_path / file) if old else theirs.save_weights(tmp_path / file)
    path = (tmp_path / file).rename(tmp_path / ("x.weights.h5" if old else "x.h5"))
    keras_weights.read(ours, keras_weights.settle(str(path)), "tiny")
    assert all(np.array_equal(a, b) for a, b in zip(theirs.get_weights(), ours.get_weights(), strict=True))


def test_weights_of_another_network_are_refused_in_one_line(keras, tmp_path):
    path = tmp_path / "their.weights.h5"
    tiny(keras, width=5).save_weights(path)
    with pytest.raises(BackboneError, match="do not fit tiny") as refusal:
        keras_weights.read(tiny(keras), str(path), "tiny")
    assert "\n" not in str(refusal.value)
    with pytest.raises(BackboneError, match="do not fit mobilenet_v3_small") as refusal:
        load("mobilenet_v3_small", tmp_path, BackboneOptions(input_size=32, weights=str(path)))
    assert "\n" not in str(refusal.value)


def test_what_is_no_weights_file_is_refused(keras, tmp_path):
    path = tmp_path / "weights.h5"
    path.write_bytes(b"\x80\x04cposix\nsystem\n")
    with pytest.raises(BackboneError, match="is no weights file"):
        keras_weights.settle(str(path))
    path.write_bytes(b"\x89HDF\r\n\x1a\n and no more")
    with pytest.raises(BackboneError, match="cannot be read"):
        keras_weights.read(tiny(keras), keras_weights.settle(str(path)), "tiny")


def test_published_efficientnets_divide_by_the_whole_deviation(keras, tmp_path):
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    original = keras.applications.EfficientNetB0(input_shape=(32, 32, 3), include_top=False, weights=None)
    layer = next(layer for layer in original.layers if isinstance(layer, keras.layers.Normalization))
    layer.set_weights([mean, deviation, np.array(0)])  # as in the published file, where the variance is the deviation
    original.save_weights(tmp_path / "b0.weights.h5")
    _, spec, _ = keras_applications.network(keras, "efficientnet_b0", 32, "avg", str(tmp_path / "b0.weights.h5"))
    np.testing.assert_allclose([spec.mean, spec.std], [255 * mean, 255 * deviation], rtol=1e-5)


# ── What the graph is tidied of ──────────────────────────────────────────────────────────────────────────────────────


def converted(keras, build, size: int = 8) -> bytes:
    """Convert the network of the layers that `build` applies; conversion itself checks it against Keras."""
    from tledge.backbones.from_keras.convert import convert

    image = keras.Input((size, size, 3))
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(build(keras.layers, image)))
    disturb(model)
    return convert(model, PreprocessSpec(size, size, mean=(127.5,) * 3, std=(64.0,) * 3))


def test_zeros_around_a_convolution_become_its_own_padding(keras):
    def build(layers, x):
        x = layers.ZeroPadding2D(((1, 2), (0, 1)))(x)
        return layers.Conv2D(4, 3, strides=2)(layers.ZeroPadding2D(1)(layers.Conv2D(4, 3)(x)))

    assert kinds(converted(keras, build))["Pad"] == 0


def test_zeros_around_negative_numbers_are_their_maximum(keras):
    from keras.initializers import Constant

    def build(layers, x):
        x = layers.Conv2D(4, 3, bias_initializer=Constant(-50.0))(x)
        return layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))

    assert kinds(converted(keras, build))["Pad"] == 1


def test_gelu_grouped_and_dense_layers_come_without_detours(keras):
    def build(layers, x):
        x = layers.Dense(12, activation="gelu")(layers.Conv2D(8, 3)(x))
        return layers.Dense(6)(layers.Conv2D(12, 3, groups=4, padding="same")(x))

    found = kinds(converted(keras, build))
    assert (found["Conv"], found["Erf"], found["Transpose"], found["MatMul"]) == (4, 1, 1, 0)


def test_squeeze_and_excitation_is_not_reshaped(keras):
    def build(layers, x):
        x = layers.Conv2D(8, 3, activation="swish")(x)
        squeezed = layers.Reshape((1, 1, 8))(layers.GlobalAveragePooling2D()(x))
        squeezed = layers.Conv2D(2, 1, activation="relu")(squeezed)
        return layers.Multiply()([x, layers.Conv2D(8, 1, activation="sigmoid")(squeezed)])

    assert kinds(converted(keras, build))["Reshape"] == 0


def test_scaling_at_the_start_becomes_part_of_the_preprocessing(keras):
    from tledge.backbones.passes.leading_scale import take_leading_scale

    layers = keras.layers
    image = keras.Input((8, 8, 3))
    x = layers.Rescaling([0.5, 0.25, 2.0], offset=-1)(image)
    x = layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0, 9.0, 16.0])(x)
    model = keras.Model(image, layers.Flatten()(layers.Conv2D(4, 3, name="first")(x)))
    bare, spec = take_leading_scale(keras, model, PreprocessSpec(8, 8, mean=(10.0,) * 3, std=(2.0,) * 3))
    assert [type(layer).__name__ for layer in bare.layers] == ["InputLayer", "Conv2D", "Flatten"]
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)
    expected = np.asarray(model((pixels - 10) / 2, training=False))
    scaled = ((pixels - np.array(spec.mean)) / np.array(spec.std)).astype(np.float32)
    assert relative_error(np.asarray(bare(scaled, training=False)), expected) <= 1e-5


def test_constants_that_a_layer_carries_are_no_inputs(keras):
    def build(layers, x):
        x = layers.Conv2D(4, 3)(x)
        x = layers.Normalization(mean=[1.0, 2.0, 3.0, 4.0], variance=[4.0, 9.0, 16.0, 25.0])(x)
        return layers.Activation("relu")(x)

    import onnx

    graph = onnx.load_from_string(converted(keras, build)).graph
    assert [value.name for value in graph.input] == ["image"]


def test_what_a_layer_has_adapted_to_is_kept(keras):
    def build(layers, x):
        learned = layers.Normalization()
        learned.adapt(np.random.default_rng(0).normal(3, 2, (50, 8, 8, 3)))
        return layers.Conv2D(4, 3)(learned(x))

    converted(keras, build)


def test_double_precision_is_that_of_the_same_network(keras):
    from tledge.backbones.from_keras.agreement import in_double

    layers = keras.layers
    inner = keras.Sequential([layers.Normalization(mean=3.0, variance=4.0), layers.Dense(7, activation="gelu")])
    model = keras.Sequential([keras.Input((5,)), inner, layers.Dense(3)])
    batch = np.random.default_rng(0).normal(size=(4, 5))
    exact = np.asarray(in_double(keras, model)(batch))
    assert exact.dtype == np.float64
    assert 0 < relative_error(np.asarray(model(batch.astype(np.float32))), exact) < 1e-6


def test_vectors_go_in_as_they_are(keras):
    from tledge.backbones.from_keras.convert import convert

    vector = keras.Input((12,))
    model = keras.Model(vector, keras.layers.Dense(5, activation="gelu")(vector))
    data = convert(model, VectorSpec(12, mean=3.0, std=2.0))
    given = np.random.default_rng(0).normal(3, 2, (4, 12)).astype(np.float32)
    assert relative_error(run(data, vector=given), np.asarray(model((given - 3) / 2))) <= 1e-5
    import onnx

    graph = onnx.load_from_string(data).graph
    assert onnx.helper.printable_value_info(graph.input[0]) == "%vector[FLOAT, Nx12]"
    assert onnx.helper.printable_value_info(graph.output[0]) == "%features[FLOAT, Nx5]"


def test_macs_count_convolutions_and_matrix_products():
    from onnx import TensorProto, helper

    from tledge.backbones.passes import macs

    def value(name, *shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    nodes = [
        helper.make_node("Conv", ["x", "grouped"], ["y"], group=2),
        helper.make_node("Flatten", ["y"], ["flat"]),
        helper.make_node("Gemm", ["flat", "dense"], ["gemm"], transB=1),
        helper.make_node("MatMul", ["gemm", "last"], ["z"]),
    ]
    weights = {"grouped": (6, 2, 3, 3), "dense": (7, 216), "last": (7, 2)}
    constants = [helper.make_tensor(k, TensorProto.FLOAT, v, np.zeros(v).ravel()) for k, v in weights.items()]
    graph = helper.make_graph(nodes, "g", [value("x", "N", 4, 8, 8)], [value("z", "N", 2)], constants)
    assert macs.count(helper.make_model(graph)) == 6 * 6 * 6 * 2 * 9 + 216 * 7 + 7 * 2
