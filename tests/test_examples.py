"""The pages of examples/ do what they say: their commands and scripts run here as they stand, on small data.

One thing is changed (`recipes.with_weights`): ImageNet weights would have to be downloaded, so networks with a name
get random ones, and pictures of 32 pixels a side.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import draw_photo, make_photos
from typer.testing import CliRunner

# Benchmarks are no part of the package. At the end of the path, so that the installed tledge stays the one under test.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import recipes
from tledge.cli.app import app
from tledge.runtime import Predictor

SIZE = 32
KINDS = ("daisy", "rose", "tulip")
# Page → its runs, and an accuracy that chance does not reach on what is drawn for it; 0 where a network with random
# weights is followed by ten epochs of three steps each, which teach nothing.
PAGES = {
    "mnist_h5": {"runs/mnist": 0.6, "runs/frozen": 0.6},
    "vgg16_frozen": {"runs/vgg16": 0.0},
    "vectors": {"runs/vectors": 0.7, "runs/again": 0.7},
    "cifar10_augmented": {"runs/cifar10": 0.25},
    "vgg16_binary": {"runs/cats-dogs": 0.0},
    "svm_forest": {"runs/svm": 0.55, "runs/forest": 0.55},
    "foreign_onnx": {"runs/foreign": 0.55},
}
# What TensorFlow takes to start is paid once: all that needs Keras runs in this one process.
_KERAS = """
import contextlib, io, json, os, sys
import keras
import numpy as np

def trained(layers, data, path):
    network = keras.Sequential([keras.Input(data["x"].shape[1:]), *layers])
    network.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy")
    network.fit(data["x"], data["y"], epochs=20, verbose=0)
    network.save(path)

dense, order = keras.layers.Dense, json.loads(open(sys.argv[1]).read())
keras.utils.set_random_seed(0)
convolutions = [keras.layers.Conv2D(8, 5, strides=2, activation="relu"), keras.layers.Flatten()]
trained([*convolutions, dense(32, "relu"), dense(10, "softmax")], np.load("mnist_before.npz"), "mnist_h5/mnist.h5")
trained([dense(32, "relu"), dense(16, "relu"), dense(3, "softmax")], np.load("vectors_before.npz"), "vectors/dense.h5")
root, outputs = os.getcwd(), {}
for page, script in order.items():
    os.chdir(os.path.join(root, page))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(script, page, "exec"), {"__name__": "__main__"})
    outputs[page] = printed.getvalue()
os.chdir(root)
open("outputs.json", "w").write(json.dumps(outputs))
"""


@pytest.fixture(scope="module")
def pages() -> dict[str, recipes.Page]:
    return {name: recipes.with_weights(recipes.read_page(name), "none", SIZE) for name in PAGES}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one for each page, in which the data that the page names are."""
    folder = tmp_path_factory.mktemp("examples")
    for page in PAGES:
        (folder / page).mkdir()
    for page in ("svm_forest", "foreign_onnx"):
        _draw_split(folder / page / "flowers", KINDS, 24)
    _draw_split(folder / "vgg16_frozen" / "flowers", KINDS, 10)
    _draw_split(folder / "vgg16_binary" / "cats-dogs", ("cats", "dogs"), 10)
    _write_network(folder / "foreign_onnx" / "squeezenet11.onnx")
    rng = np.random.default_rng(0)
    _write_pairs(folder / "cifar10_augmented" / "cifar10.npz", *(_pictures(rng, 10, each, 32) for each in (6, 3)))
    shapes = rng.uniform(0, 255, (4, 7, 7)).repeat(4, axis=1).repeat(4, axis=2)
    (x, y), *parts = (_digits(rng, shapes, each) for each in (30, 30, 10))
    np.savez(folder / "mnist_before.npz", x=x[..., None] / 255, y=y)
    _write_pairs(folder / "mnist_h5" / "mnist.npz", *parts)
    centres = rng.normal(0, 0.5, (3, 100))
    (x, y), *parts = (_vectors(rng, centres, each) for each in (100, 100, 20))
    np.savez(folder / "vectors_before.npz", x=x, y=y)
    _write_pairs(folder / "vectors" / "vectors.npz", *parts)
    return folder


@pytest.fixture(scope="module")
def plain(root: Path, pages: dict[str, recipes.Page]) -> dict[str, str]:
    """What each page's script in plain Keras printed; the .h5 files that pages bring are made on the way."""
    order = root / "order.json"
    order.write_text(json.dumps({name: page.plain for name, page in pages.items()}))
    command = [sys.executable, "-c", _KERAS, str(order)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((root / "outputs.json").read_text())


@pytest.mark.parametrize("name", PAGES)
def test_page_does_what_it_says(name, root, pages, plain, cache, monkeypatch, capsys):
    monkeypatch.chdir(root / name)
    for program, *words in pages[name].commands:
        assert program == "tledge"
        result = CliRunner().invoke(app, words, catch_exceptions=False)
        assert result.exit_code == 0, result.output
    for code in pages[name].python:
        exec(compile(code, name, "exec"), {})
        assert 0 <= recipes.printed_accuracy(capsys.readouterr().out) <= 1
    for run, least in PAGES[name].items():
        document = json.loads(Path(run, "run.json").read_text())
        assert document["metrics"]["accuracy"] >= least
        assert Predictor(document["model"]).manifest.classes == tuple(document["classes"])
    assert {str(path) for path in Path("runs").iterdir()} == PAGES[name].keys()


@pytest.mark.parametrize("name", PAGES)
def test_plain_script_prints_an_accuracy(name, plain):
    assert 0 <= recipes.printed_accuracy(plain[name]) <= 1
    if name in ("mnist_h5", "vectors"):  # in the others, Keras trains ten epochs on next to nothing
        assert recipes.printed_accuracy(plain[name]) > 0.6


def test_pages_share_what_was_computed_and_augment_what_is_trained_on(root, cache):
    """Reads what the tests above left, where they ran."""
    runs = {path.parent.name: json.loads(path.read_text()) for path in root.glob("*/runs/*/run.json")}
    if "forest" in runs:
        assert runs["forest"]["cache"] == {"hits": 84, "misses": 0}
    if "cifar10" in runs:
        assert runs["cifar10"]["views"] == 3 * 60
    if "cats-dogs" in runs:
        assert (runs["cats-dogs"]["facts"]["hidden"], runs["cats-dogs"]["facts"]["dropout"]) == ([1024, 512], 0.5)


def test_index_lists_every_page():
    listed = re.findall(r"\]\((\w+)\.md\)", (recipes.EXAMPLES / "README.md").read_text())
    found = {path.stem for path in recipes.EXAMPLES.glob("*.md")} - {"README"}
    assert set(listed) == found == PAGES.keys()


def test_only_published_weights_are_replaced(pages):
    (command,) = pages["vgg16_frozen"].commands
    assert command[-4:] == ("--weights", "none", "--input-size", str(SIZE))
    assert f"SIZE = {SIZE}\n" in pages["vgg16_frozen"].plain and "imagenet" not in pages["vgg16_frozen"].plain
    assert pages["foreign_onnx"] == recipes.read_page("foreign_onnx")


# ── Data ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _draw_split(folder: Path, classes: Sequence[str], each: int) -> None:
    make_photos(folder / "train", classes, each)
    make_photos(folder / "val", classes, 4, seed=1)


def _pictures(rng: np.random.Generator, classes: int, each: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    y = np.repeat(np.arange(classes), each)
    return np.stack([draw_photo(kind, rng, size) for kind in y]), y


def _digits(rng: np.random.Generator, shapes: np.ndarray, each: int) -> tuple[np.ndarray, np.ndarray]:
    y = np.repeat(np.arange(len(shapes)), each)
    return (shapes[y] + rng.normal(0, 60, (len(y), *shapes.shape[1:]))).clip(0, 255).astype(np.uint8), y


def _vectors(rng: np.random.Generator, centres: np.ndarray, each: int) -> tuple[np.ndarray, np.ndarray]:
    y = np.repeat(np.arange(len(centres)), each)
    return (centres[y] + rng.normal(0, 1, (len(y), centres.shape[1]))).astype(np.float32), y


def _write_pairs(path: Path, train: tuple[Any, Any], test: tuple[Any, Any]) -> None:
    np.savez(path, x_train=train[0], y_train=train[1], x_test=test[0], y_test=test[1])


def _write_network(path: Path) -> None:
    """Write a classifier that ends as SqueezeNet does, for one BGR picture at a time, with random weights."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(2)
    weights = {
        "first.w": rng.normal(0, 0.01, (16, 3, 5, 5)),
        "last.w": rng.normal(0, 0.3, (5, 16, 1, 1)),
        "last.b": rng.normal(0, 0.1, 5),
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["input", "first.w"], ["first"], strides=[2, 2]),
        node("Relu", ["first"], ["fire9/concat_drop9"]),
        node("Conv", ["fire9/concat_drop9", "last.w", "last.b"], ["last"]),
        node("Relu", ["last"], ["last.relu"]),
        node("GlobalAveragePool", ["last.relu"], ["pool10"]),
        node("Flatten", ["pool10"], ["logits"]),
    ]
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 24, 24])
    made = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 5])
    constants = [numpy_helper.from_array(value.astype(np.float32), key) for key, value in weights.items()]
    graph = helper.make_graph(nodes, "squeezenet", [given], [made], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7), path)
