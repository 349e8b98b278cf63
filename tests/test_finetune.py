"""Fine-tuning: where networks are cut, how tails are trained, and that trunk, tail and head come back as one."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from conftest import draw_photo

from tledge import finetune
from tledge.backbones.from_keras import file as keras_file
from tledge.errors import BackboneError, TledgeError
from tledge.finetune import graph, training
from tledge.finetune.source import source
from tledge.schema import BackboneOptions, PreprocessSpec

SIZE = 16
OPTIONS = finetune.FineTuneOptions(epochs=3, batch_size=8, learning_rate=0.01)


@pytest.fixture(scope="module")
def keras():
    from tledge.backbones.from_keras.convert import import_keras

    return import_keras()


@pytest.fixture(scope="module")
def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Forty pictures of two kinds, uint8 [40, 16, 16, 3], and their labels."""
    labels = np.arange(40) % 2
    rng = np.random.default_rng(0)
    return np.stack([draw_photo(3 * int(kind), rng, SIZE) for kind in labels]), labels


def run(path: Path, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["features"], {"image": images})[0]


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


# ── Where a network can be cut ───────────────────────────────────────────────────────────────────────────────────────


def residual(keras):
    """Two convolutions around a block with a shortcut: nothing inside of the block is a cut."""
    layers = keras.layers
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="low")(image)
    inner = layers.Conv2D(4, 3, padding="same", name="inner")(x)
    inner = layers.BatchNormalization(name="norm")(inner)
    x = layers.Add(name="sum")([x, keras.ops.relu(inner)])
    x = layers.Conv2D(5, 3, name="high")(x)
    return keras.Model(image, layers.GlobalAveragePooling2D(name="pool")(x), name="residual")


def test_cuts_are_where_one_tensor_is_all_that_is_read(keras):
    outline = graph.outline(keras, residual(keras))
    assert [name for name, _ in outline["layers"]] == ["low", "inner", "high"]
    assert [(name, shape) for name, _, shape in outline["cuts"]] == [
        ("low", [6, 6, 4]),
        ("sum", [6, 6, 4]),
        ("high", [4, 4, 5]),
    ]
    assert outline["input"] == [8, 8, 3]


@pytest.mark.parametrize("cut", ["low", "sum", "high"])
def test_trunk_and_tail_are_the_network(keras, cut):
    network = residual(keras)
    trunk, tail = graph.split(keras, network, cut)
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    rows = np.asarray(trunk(x))
    assert rows.ndim == 2
    again = np.asarray(tail(rows.reshape(-1, *tail.input.shape[1:])))
    np.testing.assert_allclose(again, np.asarray(network(x)), rtol=1e-6)


def test_a_chain_of_dense_layers_is_cut_between_any_two(keras):
    network = keras.Sequential([keras.Input((7,)), *[keras.layers.Dense(n, name=f"d{n}") for n in (6, 5, 4)]])
    outline = graph.outline(keras, network)
    assert [(name, shape) for name, _, shape in outline["cuts"]] == [("d6", [6]), ("d5", [5])]
    trunk, tail = graph.split(keras, network, "d5")
    assert (trunk.output.shape[1:], tail.output.shape[1:]) == ((5,), (4,))


def test_a_network_that_calls_a_layer_twice_is_not_cut(keras):
    image = keras.Input((4,))
    twice = keras.layers.Dense(4, name="twice")
    network = keras.Model(image, keras.layers.Dense(2)(twice(twice(image))))
    assert graph.outline(keras, network)["cuts"] == []


# ── Plans: one look at the network serves them all ───────────────────────────────────────────────────────────────────

BLOCKS = ("block1", "block2", "block10")


def network_of_blocks(keras):
    """A stem, three residual blocks of two convolutions and a classifier, as a user might bring it."""
    layers = keras.layers
    keras.utils.set_random_seed(4)
    image = keras.Input((SIZE, SIZE, 3), name="pixels")
    x = layers.Conv2D(8, 3, strides=2, padding="same", name="stem")(layers.Rescaling(1 / 255)(image))
    for block in BLOCKS:
        inner = layers.Conv2D(8, 3, padding="same", name=f"{block}_a", use_bias=False)(x)
        inner = layers.ReLU()(layers.BatchNormalization(name=f"{block}_norm")(inner))
        x = layers.Add(name=f"{block}_sum")([x, layers.Conv2D(8, 3, padding="same", name=f"{block}_b")(inner)])
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(12, 1, activation="relu", name="top")(x))
    return keras.Model(image, layers.Dense(5, activation="softmax", name="classifier")(x), name="blocks")


@pytest.fixture(scope="module")
def network(keras, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("networks") / "blocks.keras"
    network_of_blocks(keras).save(path)
    return str(path)


@pytest.fixture(scope="module")
def planned(network, tmp_path_factory):
    """A function that plans without looking at the network again."""
    cache = tmp_path_factory.mktemp("cache")
    finetune.plan(network, "1", BackboneOptions(), cache)

    def refuse(words: str) -> None:
        raise AssertionError(words)

    def plan(unfreeze: str) -> finetune.Plan:
        return finetune.plan(network, unfreeze, BackboneOptions(), cache, on_stage=refuse)

    plan.cache = cache
    return plan


def test_a_number_counts_layers_with_weights_from_the_top(planned):
    one, three = planned("1"), planned("3")
    assert (one.cut, one.layers) == ("block10_sum", ("top",))
    assert (three.cut, three.layers) == ("block2_sum", ("block10_a", "block10_b", "top"))
    assert (three.shape, three.length, three.bytes_per_sample) == ((8, 8, 8), 512, 1024)
    assert not three.note


@pytest.mark.parametrize("name", ["block10_a", "block10"])
def test_a_layer_may_be_named_in_full_or_by_its_block(planned, name):
    assert planned(name) == replace(planned("3"), asked=name)
    assert planned("block1").layers[0] == "block1_a"  # and not block10


def test_inside_of_a_residual_block_the_cut_moves_down_and_says_so(planned):
    inside = planned("2")
    assert (inside.cut, inside.layers) == ("block2_sum", ("block10_a", "block10_b", "top"))
    assert "block10_a" in inside.note


def test_all_trains_on_the_pictures_themselves(planned):
    whole = planned("all")
    assert whole.cut is None
    assert (whole.shape, whole.bytes_per_sample, whole.note) == ((SIZE, SIZE, 3), SIZE * SIZE * 3, "")
    assert whole.layers == ("stem", *(f"{block}_{part}" for block in BLOCKS for part in "ab"), "top")


@pytest.mark.parametrize(("unfreeze", "words"), [("9", "8 layers"), ("block7", "block7"), ("classifier", "classifier")])
def test_what_the_network_does_not_have_is_said(planned, unfreeze, words):
    with pytest.raises(BackboneError) as caught:
        planned(unfreeze)
    assert words in caught.value.message


LITE = "efficientnet_lite0"


@pytest.mark.parametrize(
    ("unfreeze", "backbone"), [("0", LITE), ("-3", LITE), ("", LITE), ("3", "mine.onnx"), ("3", "nonsense")]
)
def test_what_cannot_work_is_said_before_anything_is_done(unfreeze, backbone):
    with pytest.raises(TledgeError):
        finetune.check(unfreeze, backbone)


def test_networks_with_other_options_are_told_apart():
    sizes = (BackboneOptions(input_size=size, weights="none") for size in (32, 64))
    assert len({source(LITE, options).key for options in sizes}) == 2


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"dropout": 1.0}, {"learning_rate": -1.0}, {"batch_size": 0}])
def test_senseless_options_are_refused(wrong):
    with pytest.raises(TledgeError):
        finetune.FineTuneOptions(**wrong)


# ── The whole way, in the process that really does it ────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def plan(planned) -> finetune.Plan:
    return planned("3")


@pytest.fixture(scope="module")
def activations(plan, planned, pictures, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("activations") / "rows.npy"
    trunk = finetune.trunk(plan, planned.cache)
    assert trunk.dimension == plan.length
    np.save(path, run(trunk.path, pictures[0]).astype(np.float16))
    return path


@pytest.fixture(scope="module")
def tuned(plan, activations, pictures, tmp_path_factory) -> finetune.Tuned:
    held_out = np.arange(40) >= 32
    folder, heard = tmp_path_factory.mktemp("tuned"), []
    found = finetune.train(
        plan, activations, pictures[1], folder, OPTIONS, classes=2, validation=held_out, on_progress=heard.append
    )
    assert tuple(heard) == found.history
    return found


def test_epochs_are_told_as_they_pass(tuned):
    assert [(epoch.number, epoch.epochs) for epoch in tuned.history] == [(1, 3), (2, 3), (3, 3)]
    assert tuned.history[-1].loss < tuned.history[0].loss


def test_what_was_trained_on_half_activations_is_what_the_file_computes(tuned, pictures):
    """Trunk in float16, tail and head in Keras, against the one file: the same right and wrong answers."""
    images, labels = pictures
    logits = run(tuned.backbone.path, images) @ tuned.weights + tuned.bias
    assert tuned.backbone.dimension == tuned.weights.shape[0] == 12
    right = (logits.argmax(axis=1) == labels)[32:].mean()
    assert right == pytest.approx(tuned.history[-1].validation_accuracy)


def test_keras_file_takes_pixels_and_gives_the_same_probabilities(tuned, pictures, keras):
    model = keras.models.load_model(tuned.keras)
    expected = softmax(run(tuned.backbone.path, pictures[0]) @ tuned.weights + tuned.bias)
    found = np.asarray(model(pictures[0].astype(np.float32)))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_batch_normalisation_kept_its_statistics_and_the_trunk_its_weights(tuned, plan, keras):
    before, _, _ = keras_file.network(keras, **plan.source.arguments)
    after = keras.models.load_model(tuned.keras).get_layer(before.name)
    changed = {
        one.path
        for one, other in zip(before.weights, after.weights, strict=True)
        if (np.asarray(one) != np.asarray(other)).any()
    }
    assert {path.split("/")[0] for path in changed} == {*plan.layers, "block10_norm"}
    assert {path for path in changed if "norm" in path} == {"block10_norm/gamma", "block10_norm/beta"}


def test_a_process_that_dies_leaves_its_last_words(plan, activations, pictures, tmp_path):
    (tmp_path / "rows.npy").write_bytes(activations.read_bytes()[:-100])
    with pytest.raises((BackboneError, ValueError)):
        finetune.train(plan, tmp_path / "rows.npy", pictures[1], tmp_path, OPTIONS, classes=2)


def test_rows_that_do_not_fit_are_refused_before_the_process_starts(plan, activations, pictures, tmp_path):
    with pytest.raises(ValueError, match="rows must be"):
        finetune.train(plan, activations, pictures[1][:-1], tmp_path, OPTIONS, classes=2)


# ── Training, on tails that take no time ─────────────────────────────────────────────────────────────────────────────


def small_tail(keras):
    keras.utils.set_random_seed(1)
    row = keras.Input((6,))
    x = keras.layers.Dense(8, name="hidden")(row)
    x = keras.layers.BatchNormalization(name="norm")(x)
    return keras.Model(row, keras.layers.ReLU()(x))


def order(targets: np.ndarray, **arrays: np.ndarray) -> dict[str, np.ndarray]:
    count, classes = targets.shape
    settled = {
        "targets": targets.astype(np.float32),
        "pictures": np.arange(count),
        "validation": np.zeros(count, bool),
        "several": np.array(False),
        "class_weights": np.ones(classes),
    }
    return {**settled, **arrays}


def options(**changes) -> dict:
    return asdict(finetune.FineTuneOptions(**{"learning_rate": 0.03, "epochs": 15, "batch_size": 16, **changes}))


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(64, 6)).astype(np.float16)
    return x, np.eye(2)[(x[:, 0] + x[:, 1] > 0).astype(int)]


def fitted(keras, rows, arrays, **changes):
    lines: list[dict] = []
    tail = small_tail(keras)
    head = training.fit(keras, tail, rows, arrays, options(**changes), lines.append)
    return tail, head, lines


def test_equal_seeds_train_equally(keras, rows):
    x, targets = rows
    once, again = (fitted(keras, x, order(targets), epochs=3)[1].get_weights() for _ in range(2))
    other = fitted(keras, x, order(targets), epochs=3, seed=5)[1].get_weights()
    np.testing.assert_array_equal(once[0], again[0])
    assert (once[0] != other[0]).any()


@pytest.mark.parametrize("optimizer", [None, "adam", "sgd"])
def test_each_optimizer_learns(keras, rows, optimizer):
    x, targets = rows
    assert fitted(keras, x, order(targets), optimizer=optimizer)[2][-1]["accuracy"] > 0.8


def test_batch_normalisation_trains_when_asked(keras, rows):
    x, targets = rows
    still, moving = (
        fitted(keras, x, order(targets), epochs=1, train_batch_norm=asked)[0].get_layer("norm")
        for asked in (False, True)
    )
    assert not np.asarray(still.moving_mean).any()
    assert (np.asarray(still.gamma) != 1).all()
    assert np.asarray(moving.moving_mean).all()


def test_batch_normalisation_is_found_in_networks_within_networks(keras, rows):
    layers, (x, targets) = keras.layers, rows
    chain = keras.Sequential([keras.Input((6,)), layers.Dense(8), layers.BatchNormalization(), layers.Dropout(0.5)])
    within = keras.Input((8,))
    graph_of_layers = keras.Model(within, layers.ReLU()(layers.BatchNormalization()(within)))
    row = keras.Input((6,))
    tail = keras.Model(row, graph_of_layers(chain(row)))
    lines: list[dict] = []
    training.fit(keras, tail, x, order(targets), options(epochs=1), lines.append)
    norms = [each for part in (chain, graph_of_layers) for each in part.layers if hasattr(each, "moving_mean")]
    assert len(norms) == 2
    for norm in norms:
        assert not np.asarray(norm.moving_mean).any()
        assert (np.asarray(norm.gamma) != 1).any()


def test_head_starts_where_it_is_told(keras, rows):
    x, targets = rows
    start = {"weights": np.full((8, 2), 3.0, np.float32), "bias": np.array([1, -1], np.float32)}
    head = fitted(keras, x, order(targets, **start), learning_rate=1e-9, epochs=1)[1]
    np.testing.assert_allclose(head.get_weights()[0], start["weights"], atol=1e-5)


def test_class_weights_move_what_is_predicted(keras, rows):
    x, _ = rows
    targets = np.eye(2)[np.arange(64) % 2]  # nothing to learn but how often
    bias = [
        np.diff(fitted(keras, x, order(targets, class_weights=np.array(weights)))[1].get_weights()[1])
        for weights in ([1.0, 9.0], [9.0, 1.0])
    ]
    assert bias[0] > bias[1]


def test_labels_that_do_not_exclude_each_other(keras, rows):
    x, _ = rows
    targets = (x[:, :3] > 0).astype(float)
    tail, head, lines = fitted(keras, x, order(targets, several=np.array(True)), epochs=30)
    found = np.asarray(head(tail(x.astype(np.float32)))) > 0
    assert (found == targets).mean() > 0.85
    assert lines[-1]["accuracy"] > 0.8


def test_held_out_rows_are_only_looked_at(keras, rows):
    x, targets = rows
    held_out = np.arange(64) >= 48
    garbled = np.where(held_out[:, None], 1 - targets, targets)
    clean = fitted(keras, x, order(targets, validation=held_out), epochs=2)
    wrong = fitted(keras, x, order(garbled, validation=held_out), epochs=2)
    np.testing.assert_array_equal(clean[1].get_weights()[0], wrong[1].get_weights()[0])
    assert clean[2][-1]["validation_accuracy"] == pytest.approx(1 - wrong[2][-1]["validation_accuracy"])


def test_an_epoch_shows_each_picture_once_and_all_views_in_turn():
    pictures = np.array([4, 4, 4, 9, 9, 9, 5, 5, 5, 7, 7, 7])
    shown = training._views(pictures, np.flatnonzero(pictures != 7), seed=0)
    epochs = [shown(number) for number in range(3)]
    assert all(sorted(pictures[epoch]) == [4, 5, 9] for epoch in epochs)
    assert sorted(np.concatenate(epochs)) == list(range(9))


def test_whole_network_trains_on_pixels(keras):
    network = residual(keras)
    spec = PreprocessSpec(8, 8, mean=(100.0, 110.0, 120.0), std=(50.0, 60.0, 70.0))
    tail = training.from_input(keras, network, spec)
    images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), dtype=np.uint8)
    expected = network(((images - np.array(spec.mean)) / np.array(spec.std)).astype(np.float32))
    np.testing.assert_allclose(np.asarray(tail(images.astype(np.float32))), np.asarray(expected), rtol=1e-4, atol=1e-5)
    before = network.get_layer("low").get_weights()[0].copy()
    training.fit(keras, tail, images, order(np.eye(2)[np.arange(16) % 2]), options(epochs=1), lambda line: None)
    assert (network.get_layer("low").get_weights()[0] != before).any()
