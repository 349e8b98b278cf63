"""The parts of benchmarks.latency and benchmarks.train that decide what a figure means."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import make_backbone, make_model, make_photos
from PIL import Image

sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import latency, processes, train
from tledge.errors import MissingExtra
from tledge.runtime import Predictor

CLASSES = ("left", "right")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Draw a data set with three pictures of each class to train on, and three held out."""
    for number, split in enumerate(("train", "test")):
        make_photos(tmp_path / "data" / split, CLASSES, 3, seed=number)
    return tmp_path / "data"


# ── Latency ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_pictures_come_from_every_class_held_out_and_have_the_size_asked_for(data: Path, tmp_path: Path) -> None:
    paths = latency.jpegs(data, tmp_path / "jpegs", (64, 48), count=4)
    assert len({path.read_bytes() for path in paths}) == 4
    for path in paths:
        with Image.open(path) as picture:
            assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (64, 48))


@pytest.mark.parametrize("way", ["tledge", "Pillow"])
def test_contenders_answer_as_the_runtime_does_each_time_they_are_asked(data: Path, tmp_path: Path, way: str) -> None:
    model = make_model(tmp_path / "model.onnx", CLASSES, make_backbone(tmp_path / "graphs", size=24))
    paths = latency.jpegs(data, tmp_path / "jpegs", (24, 24), count=4)
    with latency.contender(way, model, paths, tmp_path) as alive:
        alive.ready()
        rounds = [alive.once() for _ in range(2)]
    expected = [each.label for each in Predictor(model)([path.read_bytes() for path in paths])]
    for milliseconds, labels in rounds:
        assert labels == expected
        assert len(milliseconds) == 4
        assert min(milliseconds) > 0


def test_a_contender_that_breaks_is_no_result(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    broken = latency.contender("tledge", tmp_path / "model.onnx", [], tmp_path)
    with broken as alive, pytest.raises(subprocess.CalledProcessError):
        alive.ready()


def test_missing_peers_are_named_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    with pytest.raises(MissingExtra, match=r"tledge\[peers\]"):
        next(latency.claims(argparse.Namespace(flowers=None, rounds=1)))


def test_ratio_of_quantiles_is_that_of_all_requests() -> None:
    a, b = np.arange(1.0, 101).reshape(10, 10) * 3, np.arange(1.0, 101).reshape(10, 10)
    for quantile in (0.5, 0.99):
        middle, low, high = latency.ratio_of_quantiles(a, b, quantile)
        assert (middle, low, high) == pytest.approx((3, 3, 3))


def test_rounds_that_are_slow_for_both_do_not_widen_the_interval_and_others_do() -> None:
    rng = np.random.default_rng(0)
    slow = rng.uniform(1, 3, (30, 1))
    requests = rng.uniform(1, 1.01, (30, 20))
    _, low, high = latency.ratio_of_quantiles(2 * slow * requests, slow * requests, 0.5)
    assert high - low < 1e-9
    _, low, high = latency.ratio_of_quantiles(2 * slow * requests, requests, 0.5)
    assert high - low > 0.2


def test_a_lead_within_chance_does_not_hold(data: Path) -> None:
    rng = np.random.default_rng(1)
    milliseconds = {way: rng.uniform(0.5, 1.5, (12, 9)) for way in (latency.OURS, *latency.BARS)}
    labels = {way: ["left"] * 9 for way in milliseconds} | {"OpenCV": ["left"] * 6 + ["right"] * 3}
    found = {each["claim"]: each for each in latency.compared("x", milliseconds, labels)}
    assert not found["x, p50: OpenVINO over tledge: at least 1"]["holds"]
    assert found["x: share of pictures to which OpenCV gives tledge's label"]["value"] == pytest.approx(2 / 3, abs=1e-4)


# ── Training ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_run_is_compared_with_the_run_of_keras_in_its_round() -> None:
    ours = [train.Run(seconds, 0.9, {}) for seconds in (1.0, 2.0, 10.0, 20.0)]
    assert train.over([20.0, 200.0], ours) == (15, 10, 20)


def test_a_cold_run_finds_the_converted_backbone_and_nothing_else(tmp_path: Path) -> None:
    for name in ("backbones", "run"):
        (tmp_path / name).mkdir()
    (tmp_path / "backbones" / "x.onnx").touch()
    (tmp_path / "features.sqlite").touch()
    train.forget(tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["backbones", "x.onnx"]


def test_added_pictures_are_new_files(data: Path) -> None:
    before = {path.read_bytes() for path in data.rglob("*.png")}
    train.add_mirrored(data, 2)
    added = list(data.rglob("mirrored-*.png"))
    assert len(added) == 2
    assert not {path.read_bytes() for path in added} & before


_TINY = """
import sys, keras
image = keras.Input((16, 16, 3))
x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(image))
keras.Model(image, x).save(sys.argv[1])
"""


def test_the_peer_trains_on_what_it_is_given_and_tells_its_accuracy(data: Path, tmp_path: Path) -> None:
    network = tmp_path / "network.keras"
    processes.run(processes.python(_TINY, network), tmp_path)
    peer = Path(train.__file__).with_name("keras_frozen.py")
    found = json.loads(processes.run([sys.executable, peer, network, data, "2"], tmp_path).output)
    assert found["accuracy"] * 6 == pytest.approx(round(found["accuracy"] * 6), abs=1e-3)  # of six pictures held out
    assert found["validation_seconds"] > 0
