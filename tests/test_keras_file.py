"""Keras files of the user's own: what loads, where it is cut, what it takes, and what is refused."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_photo

from tledge.backbones.from_keras import file as keras_file
from tledge.backbones.from_keras.config import plain_config
from tledge.backbones.preprocess_hints import hints, spec_of
from tledge.errors import BackboneError
from tledge.schema import BackboneOptions, PreprocessSpec, VectorSpec

pytestmark = pytest.mark.skipif(
    any(find_spec(module) is None for module in ("tensorflow", "tf2onnx", "onnx", "onnxruntime", "h5py")),
    reason="tensorflow, tf2onnx, onnx (extra train) or onnxruntime (extra cpu) is not installed",
)

NONE = BackboneOptions()
RAW = BackboneOptions(mean=(0.0,), std=(1.0,))


@pytest.fixture(scope="module")
def keras():
    from tledge.backbones.from_keras.convert import import_keras

    return import_keras()


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)


def run(model: bytes | Path, **given: np.ndarray) -> np.ndarray:
    import onnxruntime

    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"]).run(None, given)[0]


def close(found: np.ndarray, expected) -> bool:
    expected = np.asarray(expected)
    return found.shape == expected.shape and np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def prepared(keras, model, options: BackboneOptions = RAW):
    """Return network, specification and facts of a model that stands in memory."""
    return keras_file.prepare(keras, model, options)


def settle(keras, model) -> None:
    """Give every weight a value that a wrong conversion would not get right by chance."""
    rng = np.random.default_rng(5)
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            settle(keras, layer)
        elif isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
        elif getattr(layer, "weights", None):
            layer.set_weights([rng.normal(0, 0.3, weight.shape) for weight in layer.get_weights()])


# ── Keras 2 ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def old_layer(class_name: str, name: str, **settings) -> dict:
    config = {"name": name, "trainable": True, "dtype": "float32", **settings}
    return {"class_name": class_name, "config": config}


def old_convolution(class_name: str, name: str, **settings) -> dict:
    plain = {
        "kernel_size": [3, 3],
        "strides": [1, 1],
        "padding": "same",
        "data_format": "channels_last",
        "dilation_rate": [1, 1],
        "groups": 1,
        "activation": "linear",
        "use_bias": False,
        "kernel_initializer": {"class_name": "Theirs", "config": {}},
        "kernel_regularizer": {"class_name": "L2", "config": {"l2": 1e-4}},
    }
    return old_layer(class_name, name, **{**plain, **settings})


def old_network() -> list[dict]:
    policy = {"class_name": "Policy", "config": {"name": "mixed_float16"}}
    return [
        {
            "class_name": "InputLayer",
            "config": {"batch_input_shape": [None, 9, 9, 3], "dtype": "float32", "ragged": False, "name": "input_1"},
        },
        old_convolution("Conv2D", "conv", filters=4, dtype=policy),
        old_layer("BatchNormalization", "norm", axis=[3], momentum=0.99, epsilon=0.01, renorm=False, fused=None),
        old_layer("LeakyReLU", "leaky", alpha=0.25),
        old_convolution("DepthwiseConv2D", "depthwise", depth_multiplier=2, depthwise_initializer=None),
        old_layer("ReLU", "relu", max_value=6.0, negative_slope={"type": "ndarray", "value": 0.0}, threshold=0.0),
        old_layer("GlobalAveragePooling2D", "pool", data_format="channels_last"),
        old_layer("Dropout", "drop", rate=0.5, noise_shape=None, seed=None),
        old_layer("Dense", "probabilities", units=3, activation="softmax", use_bias=True),
    ]


def old_weights() -> dict[str, list[np.ndarray]]:
    rng = np.random.default_rng(8)
    norm = [rng.uniform(0.5, 1.5, 4) for _ in range(4)]
    shapes = {"conv": [(3, 3, 3, 4)], "depthwise": [(3, 3, 4, 2)], "probabilities": [(8, 3), (3,)]}
    return {"norm": norm, **{name: [rng.normal(0, 0.3, shape) for shape in each] for name, each in shapes.items()}}


def write_old(path: Path, layers: list[dict], weights: dict[str, list[np.ndarray]], **attributes: str) -> Path:
    """Write an `.h5` file as Keras 2.4 does: the config as an attribute, weights by layer in lists of names."""
    import h5py

    config = {"class_name": "Sequential", "config": {"name": "old", "layers": layers}}
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config).encode()
        file.attrs["training_config"] = json.dumps({"loss": "theirs", "optimizer_config": {"lr": 1}}).encode()
        for key, value in {"keras_version": "2.4.0", "backend": "tensorflow", **attributes}.items():
            file.attrs[key] = value.encode()
        group = file.create_group("model_weights")
        names = [layer["config"]["name"] for layer in layers]
        group.attrs["layer_names"] = [name.encode() for name in names]
        for name in names:
            inner, arrays = group.create_group(name), weights.get(name, [])
            keys = [f"{name}/weight_{i}:0" for i in range(len(arrays))]
            inner.attrs["weight_names"] = [key.encode() for key in keys]
            for key, array in zip(keys, arrays, strict=True):
                inner.create_dataset(key, data=array.astype(np.float32))
    return path


def new_network(keras):
    """The network of `old_network`, by hand and up to its features."""
    layers, weights = keras.layers, old_weights()
    made = [
        layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv"),
        layers.BatchNormalization(epsilon=0.01, name="norm"),
        layers.LeakyReLU(negative_slope=0.25),
        layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, use_bias=False, name="depthwise"),
        layers.ReLU(max_value=6.0),
        layers.GlobalAveragePooling2D(),
    ]
    model = keras.Sequential([keras.Input((9, 9, 3)), *made])
    for layer in made:
        if layer.name in weights:
            layer.set_weights(weights[layer.name])
    return model


@pytest.fixture(scope="module")
def old_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_old(tmp_path_factory.mktemp("old") / "old.weights.h5", old_network(), old_weights())


def test_a_file_of_keras_2_becomes_a_backbone_and_is_kept(keras, old_file, tmp_path):
    stages: list[str] = []
    options = BackboneOptions(mean=(10.0, 20.0, 30.0), std=(64.0,), channel_order="bgr")
    backbone = keras_file.load(old_file, tmp_path, options, stages.append)
    image = pixels(2, 9, 9, 3)
    expected = new_network(keras)(((image[..., ::-1] - [10.0, 20.0, 30.0]) / 64).astype(np.float32), training=False)
    assert close(run(backbone.path, image=image), expected)
    assert backbone.preprocess == PreprocessSpec(9, 9, mean=(30.0, 20.0, 10.0), std=(64.0,) * 3)
    assert backbone.dimension == 8
    assert [each for each in backbone.assumed if "probabilities" in each and "pool" in each]
    assert keras_file.load(old_file, tmp_path, options, stages.append) == backbone
    assert len(stages) == 1


def test_before_keras_2_3_a_sequence_was_a_list_and_its_first_layer_knew_the_shape(keras, tmp_path):
    layers = [old_layer("Dense", "first", units=4, activation="relu", batch_input_shape=[None, 5])]
    layers.append(old_layer("Dense", "last", units=2, activation="sigmoid"))
    weights = {"first": [np.ones((5, 4)), np.zeros(4)], "last": [np.ones((4, 2)), np.zeros(2)]}
    path = write_old(tmp_path / "list.hdf5", layers, weights)
    import h5py

    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": layers}).encode()
    network, spec, facts = prepared(keras, keras_file.read(keras, path), NONE)
    assert spec == VectorSpec(5)
    assert facts["layer"] == "first"
    assert np.asarray(network(np.ones((1, 5), np.float32))).tolist() == [[5.0] * 4]


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_files_of_keras_3_load_with_arithmetic_and_networks_inside(keras, tmp_path, suffix):
    layers = keras.layers
    inner = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization(name="norm")], name="inner"
    )
    given = keras.Input((8, 8, 3))
    x = layers.RandomFlip(name="flip")(given)
    x = keras.ops.relu6(inner(x * 0.5 + 1.0, training=False))[..., :3]
    outputs = layers.Dense(2, activation="softmax", name="conv_head")(layers.GlobalMaxPooling2D(name="pool")(x))
    model = keras.Model(given, outputs)
    settle(keras, model)
    path = tmp_path / f"own.{suffix}"
    model.save(path)
    network, _, facts = prepared(keras, keras_file.read(keras, path))
    image = pixels(2, 8, 8, 3).astype(np.float32)
    expected = keras.Model(given, model.get_layer("pool").output)(image, training=False)
    assert facts["layer"] == "pool"
    assert close(np.asarray(network(image, training=False)), expected)
    assert {"conv", "norm"} <= {layer.name for layer in network.layers}


# ── Where it is cut ──────────────────────────────────────────────────────────────────────────────────────────────────


def dense_head(keras, x):
    layers = keras.layers
    return layers.Dense(5, activation="softmax")(layers.Dropout(0.5)(layers.Dense(7, activation="relu", name="top")(x)))


HEADS = {
    "softmax": lambda k, x: (dense_head(k, k.layers.Flatten()(x)), "top", 7),
    "logits": lambda k, x: (k.layers.Dense(5)(k.layers.GlobalAveragePooling2D(name="top")(x)), "top", 6),
    "one sigmoid": lambda k, x: (k.layers.Dense(1, activation="sigmoid")(k.layers.Flatten(name="top")(x)), "top", 96),
    "softmax apart": lambda k, x: (
        k.layers.Softmax()(k.layers.Dense(5)(k.layers.GlobalMaxPooling2D(name="top")(x))),
        "top",
        6,
    ),
    "convolution, then pooling": lambda k, x: (
        k.layers.Activation("softmax")(k.layers.GlobalAveragePooling2D()(k.layers.Conv2D(5, 1, activation="relu")(x))),
        "body",
        6,
    ),
    "pooling, then convolution": lambda k, x: (
        k.layers.Reshape((5,))(k.layers.Conv2D(5, 1)(k.layers.GlobalAveragePooling2D(keepdims=True, name="top")(x))),
        "top",
        6,
    ),
    "none, a map": lambda k, x: (x, "body", 6),
    "none, pooled": lambda k, x: (k.layers.GlobalAveragePooling2D(name="top")(x), "top", 6),
    "none, an embedding": lambda k, x: (
        k.layers.Dense(7, activation="relu", name="top")(k.layers.Flatten()(x)),
        "top",
        7,
    ),
}


@pytest.mark.parametrize("kind", HEADS)
def test_the_classifier_is_found_and_left_out(keras, kind):
    given = keras.Input((4, 4, 3))
    outputs, layer, dimension = HEADS[kind](keras, keras.layers.Conv2D(6, 3, padding="same", name="body")(given))
    network, _, facts = prepared(keras, keras.Model(given, outputs))
    assert (facts["layer"], network.output.shape) == (layer, (None, dimension))
    assert (facts["classifier"] is None) == kind.startswith("none")


def small(keras, shape=(4, 4, 3)):
    layers = keras.layers
    body = [layers.Conv2D(6, 3, padding="same", name="body"), layers.GlobalAveragePooling2D(name="pool")]
    model = keras.Sequential([keras.Input(shape), *body, layers.Dense(5, activation="softmax", name="head")])
    settle(keras, model)
    return model


@pytest.mark.parametrize(
    ("options", "dimension"),
    [
        ({"feature": "body"}, 6),
        ({"feature": "body", "pool": "flatten"}, 96),
        ({"feature": "head"}, 5),
        ({"pool": "flatten"}, 96),
        ({"pool": "max"}, 6),
    ],
    ids=str,
)
def test_a_layer_and_its_pooling_can_be_chosen(keras, options, dimension):
    network, _, _ = prepared(keras, small(keras), BackboneOptions(**options))
    assert network.output.shape == (None, dimension)


def test_an_unknown_layer_is_answered_with_the_names(keras):
    with pytest.raises(BackboneError, match=r"'bodi'. Did you mean body\? There are: body, pool, head"):
        prepared(keras, small(keras), BackboneOptions(feature="bodi"))
    with pytest.raises(BackboneError, match="nothing to pool"):
        prepared(keras, small(keras), BackboneOptions(feature="head", pool="max"))


# ── What it takes ────────────────────────────────────────────────────────────────────────────────────────────────────


def grey(image: np.ndarray) -> np.ndarray:
    return (image @ np.array([0.299, 0.587, 0.114])).astype(np.float32)


@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 8), (64,)], ids=str)
def test_grey_pictures_come_as_rgb_in_whatever_form_the_network_takes_them(keras, shape):
    from tledge.backbones.from_keras.convert import convert

    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input(shape),
            layers.Flatten(),
            layers.Dense(4, activation="relu"),
            layers.Dense(3, activation="softmax"),
        ]
    )
    settle(keras, model)
    network, spec, facts = prepared(keras, model, BackboneOptions(input_size=8))
    assert spec == PreprocessSpec(8, 8, mean=(0.0,) * 3, std=(255.0,) * 3)
    assert any("0..1" in each for each in facts["assumed"])
    image = pixels(2, 8, 8, 3)
    expected = keras.Model(model.inputs[0], model.layers[1].output)((grey(image) / 255).reshape(2, *shape))
    assert close(run(convert(network, spec), image=image), expected)


def test_vectors_stay_vectors_unless_a_size_says_otherwise(keras):
    layers = keras.layers
    model = keras.Sequential([keras.Input((64,)), layers.Dense(4, activation="tanh"), layers.Dense(3)])
    assert prepared(keras, model, NONE)[1] == VectorSpec(64)
    assert prepared(keras, model, BackboneOptions(mean=(2.0,), std=(0.5,)))[1] == VectorSpec(64, 2.0, 0.5)
    assert prepared(keras, model, BackboneOptions(input_size=9))[1] == VectorSpec(64)


def test_the_size_can_be_chosen_where_the_layers_allow_it(keras):
    network, spec, facts = prepared(keras, small(keras, (None, None, 3)))
    assert (spec.height, network.input.shape) == (224, (None, 224, 224, 3))
    assert any("224" in each for each in facts["assumed"])
    sized, spec, _ = prepared(keras, small(keras), BackboneOptions(input_size=6, mean=(0.0,)))
    assert (spec.height, sized.input.shape) == (6, (None, 6, 6, 3))
    image = pixels(1, 4, 4, 3).astype(np.float32)
    fixed = prepared(keras, small(keras))[0]
    back = prepared(keras, small(keras, (None, None, 3)), BackboneOptions(input_size=4, mean=(0.0,)))[0]
    assert close(np.asarray(back(image)), fixed(image))
    flat = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(4, activation="relu")])
    with pytest.raises(BackboneError, match="9×9×3"):
        prepared(keras, flat, BackboneOptions(input_size=9))


@pytest.mark.parametrize("shape", [(4, 4, 4), (3, 8, 8), (4, 4, 4, 3)], ids=str)
def test_what_is_no_picture_is_refused(keras, shape):
    model = keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(4, activation="relu")])
    with pytest.raises(BackboneError, match="takes inputs of"):
        prepared(keras, model)


def test_one_input_of_known_shape_is_asked_for(keras):
    layers = keras.layers
    with pytest.raises(BackboneError, match="has 0"):
        prepared(keras, keras.Sequential([layers.Flatten(), layers.Dense(3)]))
    both = [keras.Input((4,)), keras.Input((4,))]
    with pytest.raises(BackboneError, match="has 2"):
        prepared(keras, keras.Model(both, layers.Add()(both)))


@pytest.mark.parametrize(("told", "mean", "std"), [("0..255", 0, 1), ("0..1", 0, 255), ("-1..1", 127.5, 127.5)])
def test_the_first_normalisation_tells_which_pixels_it_was_trained_on(keras, told, mean, std):
    rng = np.random.default_rng(2)
    photos = np.stack([draw_photo(kind, rng, 24) for kind in range(12)])
    layers = keras.layers
    first = [layers.Conv2D(8, 3, name="conv"), layers.BatchNormalization(name="norm")]
    model = keras.Sequential([keras.Input((24, 24, 3)), *first, layers.GlobalAveragePooling2D(), layers.Dense(3)])
    reached = np.asarray(model.layers[0](((photos - mean) / std).astype(np.float32))).reshape(-1, 8)
    first[1].set_weights([np.ones(8), np.zeros(8), reached.mean(axis=0), reached.var(axis=0)])
    _, spec, facts = prepared(keras, model, NONE)
    assert (spec.mean[0], spec.std[0]) == (mean, std)
    assert any(f"{told}," in each for each in facts["assumed"])


def test_a_network_that_scales_gets_pixels_as_they_are(keras):
    layers = keras.layers
    model = keras.Sequential([keras.Input((4, 4, 3)), layers.Rescaling(1 / 255), *small(keras).layers])
    _, spec, facts = prepared(keras, model, NONE)
    assert spec == PreprocessSpec(4, 4)
    assert any("scales itself" in each for each in facts["assumed"])


def test_a_file_beside_the_network_says_what_the_options_leave_open(tmp_path):
    path = tmp_path / "own.h5"
    (tmp_path / "own.json").write_text('{"mean": [1, 2, 3], "std": 50, "channel_order": "bgr", "input_size": 96}')
    found = hints(path, BackboneOptions(input_size=64, pool="max"))
    assert found == BackboneOptions(64, "max", mean=(1, 2, 3), std=(50,), channel_order="bgr")
    assert spec_of(found, 64, 64) == PreprocessSpec(64, 64, mean=(3.0, 2.0, 1.0), std=(50.0,) * 3)
    (tmp_path / "own.json").write_text('{"class_name": "Functional"}')
    (tmp_path / "preprocess.json").write_text('{"input_size": 32}')
    assert hints(path, NONE).input_size == 32
    assert hints(tmp_path, NONE).input_size == 32


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"meen": 1}', "Did you mean mean"),
        ("[1]", "must hold an object"),
        ("{", "cannot be read as JSON"),
        ('{"mean": "a lot"}', "one number"),
        ('{"std": [1, 2]}', "one number"),
        ('{"std": 0}', "above 0"),
        ('{"channel_order": "gbr"}', "rgb or bgr"),
        ('{"input_size": 2.5}', "input_size"),
    ],
)
def test_a_wrong_hint_is_told(tmp_path, text, told):
    (tmp_path / "preprocess.json").write_text(text)
    with pytest.raises(BackboneError, match=told):
        hints(tmp_path / "own.h5", NONE)


def test_a_deviation_in_other_units_is_told():
    with pytest.raises(BackboneError, match="multiply both by 255"):
        spec_of(BackboneOptions(mean=(0.485,), std=(0.229,)), 8, 8)


# ── What is refused ──────────────────────────────────────────────────────────────────────────────────────────────────


def node(class_name: str, name: str = "odd", module: str | None = None, registered: str | None = None, **config):
    return {
        "module": module,
        "class_name": class_name,
        "config": {"name": name, **config},
        "registered_name": registered,
        "name": name,
    }


def dense(**settings) -> dict:
    return node("Dense", module="keras.layers", units=3, **settings)


LAMBDA = {"class_name": "__lambda__", "config": {"value": ["4wEA", None, None]}}
REFUSED = {
    "Lambda": node("Lambda", module="keras.layers", function=LAMBDA),
    "Lambda of Keras 2": {"class_name": "Lambda", "config": {"name": "odd", "function": ["4wEA", None, None]}},
    "wrapped": node("TimeDistributed", "wrapper", "keras.layers", layer=node("Lambda", module="keras.layers")),
    "nested": node("Sequential", "inner", "keras", layers=[node("Lambda", module="keras.layers")]),
    "arithmetic of Keras 2": {"class_name": "TFOpLambda", "config": {"name": "odd", "function": "math.add"}},
    "own module": node("Dense", module="theirs.layers", units=3),
    "module that begins like Keras": node("Dense", module="keras_theirs", units=3),
    "registered": node("Dense", module="keras.layers", registered="theirs>Dense", units=3),
    "registered without a name for the package": node("Dense", module="keras.layers", registered="Custom>Dense"),
    "unknown": node("Theirs"),
    "TFSMLayer": node("TFSMLayer", module="keras.layers", filepath="elsewhere"),
    "TorchModuleWrapper": node("TorchModuleWrapper", module="keras.layers", module_="pickle"),
    "StringLookup": node("StringLookup", module="keras.layers", vocabulary="/etc/passwd"),
    "function for a layer": node("get_file", module="keras.utils", origin="http://localhost"),
    "activation": dense(activation=LAMBDA),
    "activation by name": dense(activation="theirs"),
    "activation from elsewhere": dense(activation={**node("function", module="os"), "config": "system"}),
    "object among settings": dense(units_={"class_name": "Lambda", "config": {}}),
    "quantized": dense(dtype={"class_name": "QuantizedDTypePolicy", "config": {"mode": "int8"}}),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_code_and_custom_classes_are_refused_by_the_name_of_the_layer(kind):
    config = node("Sequential", "whole", "keras", layers=[dense(), REFUSED[kind]])
    with pytest.raises(BackboneError, match=r"^Layer '(odd|wrapper)'"):
        plain_config(config, "3.9.0")


def test_code_in_the_call_of_a_layer_is_refused():
    layer = {**dense(), "inbound_nodes": [{"args": [LAMBDA], "kwargs": {}}]}
    with pytest.raises(BackboneError, match="'odd'"):
        plain_config(node("Functional", "whole", "keras", layers=[layer]), "3.9.0")


def test_what_matters_in_training_only_is_left_out():
    settings = {"kernel_initializer": node("Theirs"), "bias_constraint": LAMBDA, "kernel_regularizer": node("L9")}
    config = {**node("Sequential", "whole", "keras", layers=[dense(**settings)]), "compile_config": {"loss": LAMBDA}}
    plain = plain_config(config, "3.9.0")
    assert plain["config"]["layers"][0]["config"] == {"name": "odd", "units": 3}
    assert "compile_config" not in plain


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        (old_convolution("DepthwiseConv2D", "odd", groups=2), "groups = 2"),
        (old_layer("LSTM", "odd", time_major=True), "time_major = True"),
        (old_layer("Activation", "odd", activation="hard_sigmoid"), "Keras 3 computes otherwise"),
    ],
)
def test_what_keras_3_cannot_compute_as_keras_2_did_is_refused(layer, told):
    with pytest.raises(BackboneError, match=rf"'odd'.*{told}"):
        plain_config({"class_name": "Sequential", "config": {"name": "whole", "layers": [layer]}}, "2.4.0")


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_lambda_in_a_real_file_is_not_run(keras, tmp_path, suffix):
    mark = tmp_path / "run"
    code = f"lambda x, path={str(mark)!r}: (open(path, 'w').close(), x)[1]"
    model = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(eval(code), name="odd"), keras.layers.Dense(2)])
    model.save(tmp_path / f"own.{suffix}")
    mark.unlink(missing_ok=True)
    with pytest.raises(BackboneError, match="'odd' is a Lambda"):
        keras_file.read(keras, tmp_path / f"own.{suffix}")
    assert not mark.exists()


def spoil(path: Path, kind: str) -> None:
    import h5py

    with h5py.File(path, "a") as file:
        group = file["model_weights/conv/conv"]
        del group["weight_0:0"]
        if kind == "external link":
            group["weight_0:0"] = h5py.ExternalLink("/etc/hostname", "/")
        elif kind == "soft link":
            group["weight_0:0"] = h5py.SoftLink("/model_weights/norm")
        elif kind == "external storage":
            group.create_dataset("weight_0:0", (3, 3, 3, 4), "f4", external=[("/etc/hostname", 0, 432)])
        elif kind == "virtual dataset":
            layout = h5py.VirtualLayout((3, 3, 3, 4), "f4")
            layout[...] = h5py.VirtualSource("/etc/hostname", "data", (3, 3, 3, 4))
            group.create_virtual_dataset("weight_0:0", layout)
        elif kind == "shape without numbers":
            group.create_dataset("weight_0:0", (1 << 16, 1 << 16), "f4", chunks=True)
        elif kind == "circle":
            group["weight_0:0"] = group


@pytest.mark.parametrize(
    "kind",
    ["external link", "soft link", "external storage", "virtual dataset", "shape without numbers", "circle"],
)
def test_hdf5_that_reaches_out_of_itself_is_refused(keras, tmp_path, kind):
    path = write_old(tmp_path / "own.h5", old_network(), old_weights())
    spoil(path, kind)
    with pytest.raises(BackboneError, match=r"points out|another file|declares|two names"):
        keras_file.read(keras, path)


def test_a_zip_that_unpacks_to_far_more_than_it_is_is_refused(keras, tmp_path):
    path = tmp_path / "own.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", json.dumps(node("Sequential", "whole", "keras", layers=[dense()])))
        archive.writestr("model.weights.h5", bytes(100 << 20))
    with pytest.raises(BackboneError, match="unpacks to far more"):
        keras_file.read(keras, path)


@pytest.mark.parametrize(
    ("name", "data"),
    [("own.keras", b"no zip"), ("own.h5", b"no hdf5"), ("own.h5", b""), ("own.keras", b"PK\x03\x04" + bytes(40))],
)
def test_a_file_that_is_something_else_is_told(keras, tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BackboneError, match=f"{name} is not a readable Keras file"):
        keras_file.read(keras, tmp_path / name)


def test_weights_without_a_network_are_told(keras, tmp_path):
    small(keras).save_weights(tmp_path / "own.weights.h5")
    with pytest.raises(BackboneError, match="weights without a network"):
        keras_file.read(keras, tmp_path / "own.weights.h5")


def test_settings_that_make_no_sense_are_told(keras, tmp_path):
    for settings in ({"dtype": {"class_name": "Policy", "config": "float32"}}, {"kernel_size": [3]}, {"groups": [2]}):
        layers = [{**layer, "config": {**layer["config"], **settings}} for layer in old_network()]
        with pytest.raises(BackboneError, match=r"own\.h5|groups"):
            keras_file.read(keras, write_old(tmp_path / "own.h5", layers, old_weights()))


def test_channels_first_is_told(keras, tmp_path):
    layers = old_network()
    layers[1]["config"]["data_format"] = "channels_first"
    with pytest.raises(BackboneError, match="'conv' takes channels first"):
        keras_file.read(keras, write_old(tmp_path / "own.h5", layers, old_weights()))


def test_weights_that_do_not_fit_are_told(keras, tmp_path):
    weights = old_weights() | {"conv": [np.zeros((3, 3, 3, 5))]}
    with pytest.raises(BackboneError, match=r"cannot build own\.h5"):
        keras_file.read(keras, write_old(tmp_path / "own.h5", old_network(), weights))


def test_what_the_options_and_paths_cannot_be_is_told_before_anything_starts(tmp_path):
    assert keras_file.accepts(tmp_path / "not there.H5")
    assert not keras_file.accepts(tmp_path)
    with pytest.raises(BackboneError, match="Cannot read"):
        keras_file.load(tmp_path / "not there.h5", tmp_path)
    with pytest.raises(BackboneError, match="brings its own weights"):
        keras_file.load(tmp_path / "own.h5", tmp_path, BackboneOptions(weights="imagenet"))


# ── SavedModel ───────────────────────────────────────────────────────────────────────────────────────────────────────


def from_folder(keras, folder: Path, options: BackboneOptions = NONE):
    digest = keras_file.saved_model.digest(folder)
    return keras_file.network(keras, folder.name, str(folder), digest, asdict(options))


@pytest.mark.parametrize("how", ["export", "save"])
def test_a_saved_model_is_cut_before_its_classifier(keras, tmp_path, how):
    import tensorflow as tf

    from tledge.backbones.from_keras.convert import convert

    layers = keras.layers
    body = [layers.Rescaling(1 / 128), layers.Conv2D(6, 3, name="body"), layers.BatchNormalization(), layers.ReLU()]
    body.append(layers.GlobalAveragePooling2D(name="pool"))
    model = keras.Sequential([keras.Input((8, 8, 3)), *body, layers.Dense(5, activation="softmax")])
    settle(keras, model)
    model.export(tmp_path / "own", verbose=False) if how == "export" else tf.saved_model.save(model, tmp_path / "own")
    assert keras_file.accepts(tmp_path / "own")
    network, spec, facts = from_folder(keras, tmp_path / "own")
    assert (spec, "dense" in facts["classifier"]) == (PreprocessSpec(8, 8), True)
    image = pixels(2, 8, 8, 3)
    expected = keras.Model(model.inputs[0], body[-1].output)(image.astype(np.float32), training=False)
    assert close(run(convert(network, spec), image=image), expected)
    node = facts["layer"].replace("pool/Mean", "body/convolution")
    assert from_folder(keras, tmp_path / "own", BackboneOptions(feature=node))[0].output.shape == (None, 6)
    with pytest.raises(BackboneError, match="no node called 'nothing'"):
        from_folder(keras, tmp_path / "own", BackboneOptions(feature="nothing"))


def test_operators_that_reach_out_of_the_graph_are_refused(keras, tmp_path):
    import tensorflow as tf

    mark = tmp_path / "run"

    class Odd(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32)])
        def inner(self, x):
            tf.io.write_file(str(mark), "written")
            return x * 2

        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32)])
        def __call__(self, x):
            return self.inner(x)

    odd = Odd()
    tf.saved_model.save(odd, tmp_path / "own", signatures=odd.__call__)
    with pytest.raises(BackboneError, match="WriteFile"):
        from_folder(keras, tmp_path / "own")
    assert not mark.exists()
