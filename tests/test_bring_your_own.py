"""Tables, arrays, vectors, other backbones and fine-tuning, through the commands from end to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import make_backbone, make_photos
from sounds import make_words
from typer.testing import CliRunner

import tledge
from tledge.cli.app import app
from tledge.errors import DataError, TledgeError
from tledge.schema import TrainResult

CLASSES = ("cat", "dog")


@pytest.fixture(autouse=True)
def _kept_cache(cache: Path) -> None:
    """Every test shares the session's cache."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("own")


@pytest.fixture(scope="module")
def pictures(folder: Path) -> Path:
    return make_photos(folder / "pictures", CLASSES, 12, seed=2)


@pytest.fixture(scope="module")
def network(folder: Path) -> Path:
    """A backbone of somebody's own, as ONNX."""
    return make_backbone(folder, name="theirs", seed=5).path


@pytest.fixture(scope="module")
def vectors(folder: Path) -> Path:
    """Three clouds of vectors, two hundred to train on and forty to test on."""
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 3
    rows = (rng.normal(0, 1, (3, 20))[labels] + rng.normal(0, 0.6, (240, 20))).astype(np.float32)
    path = folder / "vectors.npz"
    np.savez(path, x_train=rows[:200], y_train=labels[:200], x_test=rows[200:], y_test=labels[200:])
    return path


# ── Vectors ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def vector_run(vectors: Path, folder: Path, cache: Path) -> TrainResult:
    return tledge.train(vectors, folder / "vector-run", folds=4)


def test_vectors_go_to_the_head_as_they_are(vector_run: TrainResult, vectors: Path) -> None:
    assert (vector_run.backbone, vector_run.head, vector_run.samples.test) == ("none", "linear", 40)
    assert vector_run.metrics.accuracy > 0.9
    again = tledge.evaluate(vector_run.model, vectors).metrics
    assert again.confusion == vector_run.metrics.confusion


def test_every_command_takes_a_model_of_vectors(vector_run: TrainResult, vectors: Path, tmp_path: Path) -> None:
    exported = tledge.export(vector_run.run, tmp_path / "int8.onnx", precision="int8")
    assert exported.parity.passed and tledge.verify(exported.model).passed
    assert tledge.bench(exported.model, seconds=0.2, scenarios=("single_stream",)).scenarios["single_stream"].samples
    found = tledge.predict(exported.model, [vectors]).predictions
    with np.load(vectors) as stored:
        labels = [str(label) for label in stored["y_test"]]
    assert np.mean([each.label == label for each, label in zip(found, labels, strict=True)]) > 0.9
    rows = np.zeros((2, 20), np.float32)
    assert [each.path for each in tledge.Predictor(exported.model)(rows)] == ["", ""]


def test_without_a_backbone_there_is_nothing_to_tune(vectors: Path, tmp_path: Path) -> None:
    with pytest.raises(TledgeError, match="needs a backbone"):
        tledge.train(vectors, tmp_path / "run", unfreeze="2")
    assert not any(tmp_path.iterdir())


def test_what_keras_does_not_build_is_not_tuned_whatever_the_default(tmp_path: Path) -> None:
    words = make_words(tmp_path / "words", ("down", "up"), 6)
    with pytest.raises(TledgeError, match="speech_embedding is none"):
        tledge.train(words, tmp_path / "run", unfreeze="2")
    assert not (tmp_path / "run").exists()


def test_vectors_have_no_augmented_views(vectors: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is for pictures"):
        tledge.train(vectors, tmp_path / "run", augment="flip")
    assert not any(tmp_path.iterdir())


def test_folds_test_every_sample_once(vector_run: TrainResult) -> None:
    folds = vector_run.cross_validation
    assert folds and (folds.folds, folds.samples, len(folds.accuracies)) == (4, 240, 4)
    assert folds.accuracy_mean == pytest.approx(np.mean(folds.accuracies)) and folds.accuracy_mean > 0.9


def test_pictures_and_vectors_are_told_apart(vectors: Path, pictures: Path, network: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="takes pictures"):
        tledge.train(vectors, tmp_path / "r", backbone=network)
    with pytest.raises(DataError, match="pictures"):
        tledge.train(pictures, tmp_path / "r", backbone="none")
    assert not any(tmp_path.iterdir())


def test_a_model_of_vectors_refuses_pictures(vector_run: TrainResult, pictures: Path) -> None:
    result = tledge.predict(vector_run.model, [next(pictures.rglob("*.png"))])
    assert not result.predictions and "vectors" in result.skipped[0].reason


# ── Tables, several labels, arrays of pictures ───────────────────────────────────────────────────────────────────────


def test_several_labels_from_a_table(pictures: Path, network: Path, tmp_path: Path) -> None:
    files = sorted(pictures.rglob("*.*"))
    rows = [f"{file},{file.parent.name}{'|second' if i % 3 == 0 else ''}" for i, file in enumerate(files)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows]))
    run = tledge.train(tmp_path / "labels.csv", tmp_path / "run", backbone=network)
    assert run.multilabel and run.head == "multilabel" and len(run.thresholds) == 3
    assert run.metrics.mean_average_precision is not None and run.metrics.confusion == ()
    exported = tledge.export(run.run, tmp_path / "int8.onnx", min_agreement=0)
    (prediction,) = tledge.predict(exported.model, [files[0]]).predictions
    bars = dict(zip(run.classes, run.thresholds, strict=True))
    assert set(prediction.labels) == {
        name for name, p in prediction.probabilities.items() if p >= np.float32(bars[name])
    }
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    assert tledge.evaluate(exported.model, tmp_path / "labels.csv").metrics.per_class[2].support == 8


def test_the_threshold_of_a_binary_head_ships(pictures: Path, network: Path, tmp_path: Path) -> None:
    run = tledge.train(pictures, tmp_path / "run", backbone=network, head="binary", positive="dog")
    predictor = tledge.Predictor(run.model)
    assert predictor.manifest.thresholds == run.thresholds and len(run.thresholds) == 2
    bar = run.thresholds[1]
    assert predictor.prediction("", np.array([1 - bar, bar], np.float32)).label == "dog"
    below = np.nextafter(np.float32(bar), np.float32(0))
    assert predictor.prediction("", np.array([1 - below, below], np.float32)).label == "cat"


def test_arrays_of_pictures(network: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    labels = np.arange(60) % 2
    images = rng.integers(0, 120, (60, 20, 20), np.uint8)
    images[labels == 1, :10] += 120
    np.savez(tmp_path / "digits.npz", x=images, y=labels)
    run = tledge.train(tmp_path / "digits.npz", tmp_path / "run", backbone=network)
    assert run.metrics.accuracy > 0.8
    np.save(tmp_path / "new.npy", images[:3])
    found = tledge.predict(run.model, [tmp_path / "new.npy"]).predictions
    assert [each.path for each in found] == [f"{tmp_path / 'new.npy'}[{i}]" for i in range(3)]


# ── Views and comparison ─────────────────────────────────────────────────────────────────────────────────────────────


def test_views_are_extracted_once_and_never_tested_on(pictures: Path, network: Path, tmp_path: Path) -> None:
    options = {"backbone": network, "augment": "flips", "views": 3}
    run = tledge.train(pictures, tmp_path / "first", **options)
    assert run.views == 3 * run.samples.train and sum(map(sum, run.metrics.confusion)) == run.samples.test
    assert run.cache.misses + run.cache.hits == run.views + run.samples.train + run.samples.test
    again = tledge.train(pictures, tmp_path / "again", **options)
    assert again.cache.misses == 0 and again.metrics == run.metrics
    assert tledge.export(again.run, tmp_path / "int8.onnx", min_agreement=0).parity.samples == run.samples.test


def test_backbones_are_compared(pictures: Path, network: Path, folder: Path, tmp_path: Path) -> None:
    other = make_backbone(folder, name="other", seed=9, size=24).path
    result = CliRunner().invoke(
        app, ["train", str(pictures), "--out", str(tmp_path / "both"), "--backbone", f"{network},{other}", "--json"]
    )
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document == json.loads((tmp_path / "both" / "comparison.json").read_text())
    rows = document["backbones"]
    assert {row["backbone"] for row in rows} == {"theirs", "other"} and rows[0]["p50_ms"] <= rows[1]["p50_ms"]
    assert rows[0]["pareto"] and rows[1]["pareto"] == (rows[1]["accuracy"] > rows[0]["accuracy"])
    assert all(tledge.verify(Path(row["run"]) / "model.onnx").passed for row in rows)


def test_a_comparison_is_refused_before_the_first_is_trained(pictures: Path, network: Path, tmp_path: Path) -> None:
    with pytest.raises(TledgeError, match="no backbone called"):
        tledge.compare(pictures, tmp_path / "both", backbones=[str(network), "resnet5"])
    with pytest.raises(TledgeError, match="none was named"):
        tledge.compare(pictures, tmp_path / "both", backbones=[])
    assert not any(tmp_path.iterdir())


# ── Options ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"views": 2}, "augmentation"),
        ({"augment": "flop"}, "flip"),
        ({"augment": "flip", "views": 2}, "1 view"),
        ({"folds": 1}, "2 folds"),
        ({"unfreeze": "3", "head": "svm"}, "head of its own"),
        ({"unfreeze": "3", "folds": 3}, "not cross-validated"),
        ({"unfreeze": "-1"}, "1 or more"),
        ({"unfreeze": "3", "epochs": 0}, "epochs"),
        ({"hidden": (8,)}, "mlp"),
        ({"head": "binary", "positive": "owl"}, "owl"),
        ({"pool": "mean"}, "pool"),
    ],
)
def test_options_that_cannot_be(pictures: Path, tmp_path: Path, options: dict[str, object], said: str) -> None:
    with pytest.raises(TledgeError, match=said) as caught:
        tledge.train(pictures, tmp_path / "run", **options)
    assert "\n" not in str(caught.value) and not any(tmp_path.iterdir())


def test_a_misspelt_option_of_the_function_is_named(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="learning_rate"):
        tledge.train(pictures, tmp_path / "run", learning_rat=1)


@pytest.mark.parametrize("arguments", [["--mean", "a,b"], ["--hidden", "1.5"], ["--hidden", "-3"]])
def test_numbers_on_the_command_line(pictures: Path, tmp_path: Path, arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["train", str(pictures), "--out", str(tmp_path / "run"), *arguments])
    assert result.exit_code == 2 and not any(tmp_path.iterdir())


# ── Fine-tuning and Keras ────────────────────────────────────────────────────────────────────────────────────────────

_TINY = """
import sys, keras
keras.utils.set_random_seed(1)
layers, picture = keras.layers, keras.Input((24, 24, 3))
x = layers.Rescaling(1 / 127.5, -1.0)(picture)
x = layers.Conv2D(8, 3, strides=2, activation="relu", name="low")(x)
x = layers.BatchNormalization(name="norm")(x)
x = layers.Conv2D(12, 3, activation="relu", name="high")(x)
x = layers.GlobalAveragePooling2D()(x)
keras.Model(picture, layers.Dense(5, activation="softmax", name="old")(x), name="tiny").save(sys.argv[1])
"""


@pytest.fixture(scope="module")
def keras_file(folder: Path) -> Path:
    path = folder / "tiny.keras"
    settings = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, "-c", _TINY, str(path)], check=True, env=settings, capture_output=True)
    return path


@pytest.fixture(scope="module")
def tuned(pictures: Path, keras_file: Path, folder: Path, cache: Path) -> TrainResult:
    return tledge.train(
        pictures, folder / "tuned", backbone=keras_file, unfreeze="high", epochs=12, augment="flip", test_fraction=0.25
    )


def test_fine_tuning_trains_from_the_cut_up(tuned: TrainResult) -> None:
    assert tuned.fine_tuning and tuned.fine_tuning.layer == "high" and tuned.fine_tuning.layers == 1
    assert tuned.views == tuned.samples.train == 18 and tuned.fine_tuning.activations == 36
    assert len(tuned.fine_tuning.loss) == 12 and tuned.fine_tuning.loss[-1] < tuned.fine_tuning.loss[0]
    names = {"run.json", "model.onnx", "head.npz", "predictions.csv", "report.html", "backbone.onnx", "network.keras"}
    assert {path.name for path in Path(tuned.run).iterdir()} == names
    assert tledge.verify(tuned.model).passed


def test_a_fine_tuned_run_is_exported(tuned: TrainResult, tmp_path: Path) -> None:
    exported = tledge.export(tuned.run, tmp_path / "int8.onnx", precision="int8", min_agreement=0)
    assert exported.accuracy.before == tuned.metrics.accuracy and tledge.verify(exported.model).passed
    assert exported.parity.mean_abs_diff < 0.05


def test_a_fine_tuned_run_is_written_for_keras(tuned: TrainResult, tmp_path: Path) -> None:
    exported = tledge.export(tuned.run, tmp_path / "out.keras", precision="keras")
    assert exported.parity.agreement == 1 and exported.parity.max_abs_diff < 1e-3 and exported.golden is None
    assert (tmp_path / "out.keras").read_bytes() == (Path(tuned.run) / "network.keras").read_bytes()


def test_a_backbone_that_is_not_the_runs_own_is_refused(tuned: TrainResult, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    copy.mkdir()
    for path in Path(tuned.run).iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "backbone.onnx").write_bytes((copy / "backbone.onnx").read_bytes() + b"\0")
    with pytest.raises(TledgeError, match="not the backbone"):
        tledge.export(copy, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


def test_a_frozen_run_is_written_for_keras(pictures: Path, keras_file: Path, tmp_path: Path) -> None:
    run = tledge.train(pictures, tmp_path / "run", backbone=keras_file, head="binary")
    exported = tledge.export(run.run, tmp_path / "out.keras", precision="keras")
    assert exported.parity.agreement == 1 and exported.parity.max_abs_diff < 1e-3


def test_what_keras_did_not_build_is_not_written_for_it(vector_run: TrainResult, tmp_path: Path) -> None:
    with pytest.raises(TledgeError, match="no backbone"):
        tledge.export(vector_run.run, tmp_path / "out.keras", precision="keras")
    assert not any(tmp_path.iterdir())
