"""The whole sentence on a handful of sounds made by code: train, export, evaluate, predict, verify, bench."""

from __future__ import annotations

import base64
import io
import json
import re
import wave
from pathlib import Path

import numpy as np
import pytest
from sounds import draw_word, encode, make_words, tone

import tledge
from tledge.runtime import Predictor

CLASSES = ("down", "left", "up")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_words(tmp_path_factory.mktemp("words") / "words", CLASSES, 10)


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory, words: Path, cache: Path) -> Path:
    """The run folder of the default backbone for sounds. Not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "heard"
    tledge.train(words, folder)
    return folder


@pytest.fixture(scope="module")
def heard_int8(tmp_path_factory: pytest.TempPathFactory, heard: Path) -> Path:
    path = tmp_path_factory.mktemp("models") / "model.onnx"
    tledge.export(heard, path, min_agreement=0.8, max_drop=20)
    return path


def test_training_on_sounds_leaves_a_complete_run(heard):
    document = json.loads((heard / "run.json").read_text())
    assert (document["backbone"], document["kind"]) == ("speech_embedding", "audio")
    assert document["classes"] == list(CLASSES)
    assert document["metrics"]["accuracy"] > 0.6
    assert "held-out sounds" in (heard / "report.html").read_text()


def test_the_int8_file_takes_samples_and_does_what_its_export_measured(heard, heard_int8, words):
    predictor = Predictor(heard_int8)
    (given,) = predictor.session.get_inputs()
    assert (given.name, given.type) == ("audio", "tensor(float)")
    assert (predictor.manifest.precision, predictor.manifest.classes) == ("int8", CLASSES)
    assert heard_int8.stat().st_size < (heard / "model.onnx").stat().st_size
    assert tledge.evaluate(heard_int8, words).metrics.accuracy > 0.9


def test_sounds_are_measured_from_file_to_label(heard_int8, words):
    result = tledge.bench(heard_int8, seconds=0.05, scenarios=["single_stream"], samples=words / "up")
    (found,) = result.end_to_end
    assert (found.samples, found.files, found.extent) == (str(words / "up"), 10, "seconds")
    assert found.resize is None and found.tokenize is None
    assert found.decode.mean_ms + found.run.mean_ms + found.label.mean_ms == pytest.approx(found.whole.mean_ms)
    made = tledge.bench(heard_int8, seconds=0.05, scenarios=["single_stream"], end_to_end=True).end_to_end
    assert [each.samples for each in made] == ["drawn 16 kHz mono", "drawn 44.1 kHz stereo"]
    seconds = Predictor(heard_int8).reader.seconds
    assert [each.mean_extent for each in made] == pytest.approx([seconds, seconds], abs=1e-4)


def test_both_files_of_sounds_pass_their_own_golden_samples(heard, heard_int8):
    for model in (heard / "model.onnx", heard_int8):
        result = tledge.verify(model)
        assert result.passed and (result.golden.samples, result.golden.flips) == (4, 0)


def test_sounds_are_predicted_whatever_their_rate(heard_int8, tmp_path, words):
    file = words / "up" / "s0_000.wav"
    (tmp_path / "high.wav").write_bytes(encode(tone(640, rate=44100), 44100))
    found = tledge.predict(heard_int8, [file, tmp_path / "high.wav"])
    assert found.predictions[0].label == "up" and len(found.predictions) == 2
    assert Predictor(heard_int8)(file)[0].probabilities == found.predictions[0].probabilities


def test_sounds_are_measured_on_the_golden_ones(heard, heard_int8):
    result = tledge.bench(
        heard_int8,
        seconds=0.3,
        threads=1,
        scenarios=["single_stream", "multi_stream", "offline"],
        against=heard / "model.onnx",
    )
    assert result.assumed == ("audio: the golden samples",)
    assert result.scenarios["offline"].samples_per_second > 0 and result.verdict.pairs > 0


def test_what_is_fed_is_the_golden_sounds(heard_int8):
    subject = tledge.measurement.open_subject(heard_int8, provider="cpu", threads=1)
    golden = [subject.predictor.reader.from_golden(each) for each in subject.predictor.manifest.golden]
    assert np.array_equal(subject.feed(6)["audio"], np.stack([*golden, *golden[:2]]))


def test_longer_sounds_are_decided_window_by_window_and_shown_whole(tmp_path, cache):
    long, test = (
        make_words(tmp_path / name, CLASSES[:2], 4, seconds=2.0, seed=seed) for seed, name in ((0, "a"), (1, "b"))
    )
    for number in range(2):  # what the other class says: decided wrongly
        sound = draw_word(1, np.random.default_rng(9 + number), 2.0)
        (test / CLASSES[0] / f"odd{number}.wav").write_bytes(encode(sound))
    result = tledge.train(long, tmp_path / "run", window_s=1.0, hop_s=0.5, test_data=test)
    page = (tmp_path / "run" / "report.html").read_text()
    assert np.sum(result.metrics.confusion) == 10 and result.samples.test == 10  # clips, of three windows each
    assert page.count('<svg class="outline"') == page.count("<audio ") == 10 - np.trace(result.metrics.confusion) >= 2
    seconds = [audio_seconds(each) for each in re.findall(r'"data:audio/wav;base64,([^"]*)', page)]
    assert seconds == pytest.approx([2.0] * len(seconds), abs=0.01)


def audio_seconds(letters: str) -> float:
    with wave.open(io.BytesIO(base64.b64decode(letters))) as file:
        return file.getnframes() / file.getframerate()
