"""The whole sentence on a handful of drawn pictures: train, export, evaluate, predict, verify, bench."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import make_photos

import tledge
from tledge.documents import to_json

CLASSES = ("cat", "dog", "owl")


@pytest.fixture
def document(run: Path) -> dict:
    return json.loads((run / "run.json").read_text())


@pytest.fixture
def predictions(run: Path) -> list[dict[str, str]]:
    with (run / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def test_folder(tmp_path: Path, predictions: list[dict[str, str]]) -> Path:
    """The pictures that the run was tested on, by class."""
    for row in predictions:
        place = tmp_path / "held-out" / row["label"]
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(row["path"], place)
    return tmp_path / "held-out"


def test_training_leaves_a_complete_run(run, document, predictions):
    assert {path.name for path in run.iterdir()} >= {
        "run.json",
        "model.onnx",
        "head.npz",
        "predictions.csv",
        "report.html",
    }
    assert document["classes"] == list(CLASSES)
    assert document["class_counts"] == dict.fromkeys(CLASSES, 12)
    assert document["samples"]["train"] + document["samples"]["test"] == 36
    assert len(predictions) == document["samples"]["test"] >= 6
    assert sum(map(sum, document["metrics"]["confusion"])) == len(predictions)
    assert document["metrics"]["accuracy"] > 0.6
    assert document["bytes"] == (run / "model.onnx").stat().st_size
    assert document["seconds"]["total"] >= document["seconds"]["extract"] + document["seconds"]["fit"]


def test_the_runs_model_file_does_what_was_measured(run, document, predictions):
    found = tledge.predict(run / "model.onnx", [row["path"] for row in predictions])
    for prediction, row in zip(found.predictions, predictions, strict=True):
        assert prediction.path == row["path"]
        assert prediction.label == row["predicted"]
        assert prediction.probability == pytest.approx(float(row["probability"]), abs=1e-4)
    assert tledge.Predictor(run / "model.onnx").manifest.accuracy == document["metrics"]["accuracy"]


def test_evaluating_the_held_out_pictures_gives_the_runs_figures(run, document, test_folder):
    found = tledge.evaluate(run / "model.onnx", test_folder)
    assert found.metrics.accuracy == document["metrics"]["accuracy"]
    assert found.metrics.log_loss == pytest.approx(document["metrics"]["log_loss"], abs=1e-4)
    assert json.loads(to_json(found))["metrics"]["confusion"] == document["metrics"]["confusion"]


def test_the_int8_file_is_small_and_does_what_its_export_measured(run, int8_model, document, test_folder):
    predictor = tledge.Predictor(int8_model)
    assert predictor.manifest.precision == "int8"
    assert predictor.manifest.classes == CLASSES
    assert int8_model.stat().st_size < 0.35 * (run / "model.onnx").stat().st_size
    assert tledge.evaluate(int8_model, test_folder).metrics.accuracy == predictor.manifest.accuracy


def test_exporting_says_how_both_files_compare(tmp_path, run, int8_model, document):
    result = tledge.export(run, tmp_path / "again.onnx")
    assert result.precision == "int8"
    assert result.bytes == (tmp_path / "again.onnx").stat().st_size
    assert result.digest == tledge.Predictor(tmp_path / "again.onnx").digest
    assert result.accuracy.before == document["metrics"]["accuracy"]
    assert result.parity.passed
    assert result.parity.samples == document["samples"]["test"]
    assert 0.95 <= result.parity.agreement <= 1
    assert result.cache.misses == 0
    picture = np.zeros((50, 60, 3), np.uint8)
    assert tledge.Predictor(tmp_path / "again.onnx")(picture) == tledge.Predictor(int8_model)(picture)


def test_both_files_pass_their_own_golden_samples(run, int8_model):
    for model in (run / "model.onnx", int8_model):
        result = tledge.verify(model)
        assert result.passed
        assert (result.golden.samples, result.golden.flips) == (4, 0)
        assert result.classes == CLASSES


def test_benching_measures_and_compares(int8_model, run):
    result = tledge.bench(int8_model, seconds=0.4, threads=1, against=run / "model.onnx")
    single, offline = result.scenarios["single_stream"], result.scenarios["offline"]
    assert 0 < single.min_ms <= single.p50_ms <= single.p90_ms <= single.p99_ms <= single.max_ms
    assert str(offline.batch_size) == max(offline.by_batch_size, key=offline.by_batch_size.get)
    assert (result.threads, result.precision, result.provider) == (1, "int8", "cpu")
    assert result.verdict.pairs > 0


def test_training_again_computes_nothing_and_gives_the_same_head(tmp_path, photos, run, document):
    result = tledge.train(photos, tmp_path / "again")
    assert (result.cache.hits, result.cache.misses) == (36, 0)
    assert result.fingerprint == document["fingerprint"]
    with np.load(run / "head.npz") as first, np.load(tmp_path / "again" / "head.npz") as second:
        for name in first.files:
            np.testing.assert_array_equal(first[name], second[name])


def test_added_pictures_are_all_that_is_computed(tmp_path, photos, run):
    shutil.copytree(photos, tmp_path / "grown")
    make_photos(tmp_path / "more", CLASSES, 2, seed=77)
    for path in (tmp_path / "more").rglob("*.*"):
        shutil.copy(path, tmp_path / "grown" / path.parent.name / f"new-{path.name}")
    result = tledge.train(tmp_path / "grown", tmp_path / "run")
    assert (result.cache.hits, result.cache.misses) == (36, 6)
    assert result.class_counts == dict.fromkeys(CLASSES, 14)
