"""`tledge listen`: a stream with tones at known times gives events at those times, however it comes."""

from __future__ import annotations

import hashlib
import io
import json
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import make_backbone, make_manifest, make_model
from sounds import ENCODINGS, NAMES, encode, tone
from typer.testing import CliRunner

import tledge
from tledge import decode_sound, heads
from tledge.cli.app import app
from tledge.commands.listening.events import Hysteresis, RunningMean
from tledge.commands.listening.windows import windows
from tledge.errors import DataError, ModelError, TledgeError
from tledge.heads import dense
from tledge.model.join import join
from tledge.model.manifest import stamp
from tledge.schema import Backbone, Head, SoundEvent, SoundSpec

RATE, WINDOW = 8000, 4000
LOW, HIGH = 400.0, 1200.0
CLASSES = ("low", "high", "nothing")
SECONDS = 8.0
TONES = (("low", 2.0, 4.0), ("high", 5.0, 6.5))
NEAR = 0.2  # seconds; a window is half of one, twelve begin in it


def power_backbone(folder: Path) -> Backbone:
    """Write a backbone whose two features are the power of two tones in a window of half a second."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    time = np.arange(WINDOW) / RATE
    waves = [wave(2 * np.pi * hertz * time) for hertz in (LOW, HIGH) for wave in (np.sin, np.cos)]
    constants = {
        "waves": (np.stack(waves, axis=1) * 2 / WINDOW).astype(np.float32),
        "pairs": np.repeat(np.eye(2), 2, axis=0).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["audio", "waves"], ["parts"], "parts"),
        helper.make_node("Mul", ["parts", "parts"], ["squares"], "squares"),
        helper.make_node("MatMul", ["squares", "pairs"], ["features"], "power"),
    ]
    audio = helper.make_tensor_value_info("audio", TensorProto.FLOAT, ["N", WINDOW])
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 2])
    weights = [numpy_helper.from_array(value, key) for key, value in constants.items()]
    graph = helper.make_graph(nodes, "power", [audio], [features], weights)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "power.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Backbone("power", path, SoundSpec(RATE, WINDOW), 2, digest)


def listener(path: Path, *, multilabel: bool = False, thresholds: tuple[float, ...] = ()) -> Path:
    """Write a model that hears tones of half of full scale: in half of a window they and nothing are as likely."""
    backbone = power_backbone(path.parent / "graphs")
    weights, bias = 100 * np.eye(2, 3, dtype=np.float32), np.array([0, 0, 6.25], np.float32)
    classes = CLASSES
    if multilabel:
        weights, bias, classes = weights[:, :2], np.full(2, -6.25, np.float32), CLASSES[:2]
    kind = "multilabel" if multilabel else "linear"
    graph = heads.graph(Head(kind, dense.one_layer(weights, bias), {"l2": 0.1}, thresholds), 2)
    manifest = replace(make_manifest(backbone, classes), head=kind, multilabel=multilabel, thresholds=thresholds)
    path.write_bytes(stamp(join(backbone, graph), manifest))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return listener(tmp_path_factory.mktemp("model") / "model.onnx")


def stream(rate: int = RATE, tones=TONES, seconds: float = SECONDS) -> np.ndarray:
    """Return float32 [n], silent but for tones."""
    samples = np.zeros(round(seconds * rate), np.float32)
    for name, start, end in tones:
        hertz = LOW if name == "low" else HIGH
        first, sound = round(start * rate), tone(hertz, end - start, rate)
        samples[first : first + len(sound)] += sound
    return samples


def raw(samples: np.ndarray) -> bytes:
    return np.rint(samples * 32767).astype("<i2").tobytes()


def heard(events) -> list[str]:
    return [event.label for event in events]


def at_the_tones(events, tones=TONES) -> bool:
    times = [(event.start_s, event.end_s) for event in events]
    return heard(events) == [name for name, *_ in tones] and times == [
        pytest.approx(pair, abs=NEAR) for _, *pair in tones
    ]


class Pieces(io.BytesIO):
    """A pipe that gives pieces of odd sizes."""

    def __init__(self, content: bytes, seed: int) -> None:
        super().__init__(content)
        self._rng = np.random.default_rng(seed)

    def read1(self, most: int = -1) -> bytes:
        return self.read(int(self._rng.integers(1, 3000)))


# ── Streams ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("rate", "channels", "form"), [(8000, 1, "WAV"), (44100, 2, "FLAC"), (16000, 1, "OGG")])
def test_tones_of_a_file_are_events_at_their_times(tmp_path, model, rate, channels, form):
    path = tmp_path / "some.sound"
    samples = np.stack([stream(rate)] * channels, axis=1)
    path.write_bytes(encode(samples, rate, form, "VORBIS" if form == "OGG" else "PCM_16"))
    told: list[SoundEvent] = []
    found = tledge.listen(model, path, ignore=["nothing"], on_event=told.append)
    assert at_the_tones(found.events)
    for event, (_, start, end) in zip(found.events, TONES, strict=True):
        assert event.peak > 0.95 and start < event.peak_s < end
    assert [(event.label, event.end_s is None) for event in told] == [
        ("low", True),
        ("low", False),
        ("high", True),
        ("high", False),
    ]
    assert tuple(event for event in told if event.end_s is not None) == found.events
    assert found.audio_seconds == pytest.approx(SECONDS, abs=0.001)
    assert found.windows == 182  # from 0 to 7.5 s every 333 samples, and one more to the end
    assert found.real_time_factor == found.work_seconds / found.audio_seconds > 0


@pytest.mark.parametrize(
    ("rate", "channels", "encoding"), [(8000, 1, "s16le"), (11025, 2, "s16le"), (8000, 1, "f32le")]
)
def test_how_the_samples_come_does_not_matter(model, rate, channels, encoding):
    rng = np.random.default_rng(5)
    samples = np.stack([stream(rate) + rng.normal(0, 0.02, round(SECONDS * rate)) for _ in range(channels)], axis=1)
    content = raw(samples) if encoding == "s16le" else samples.astype("<f4").tobytes()
    given = {"rate": rate, "channels": channels, "encoding": encoding}
    whole = tledge.listen(model, io.BytesIO(content), **given)
    assert at_the_tones([event for event in whole.events if event.label != "nothing"])
    for seed in range(3):
        pieces = tledge.listen(model, Pieces(content, seed), **given)
        assert pieces.events == whole.events and pieces.windows == whole.windows
        assert pieces.audio_seconds == whole.audio_seconds


@pytest.mark.parametrize(("form", "subtype"), ENCODINGS, ids=NAMES)
def test_a_file_in_pieces_is_the_file(form, subtype):
    content = encode(stream(16000)[: 16000 * 3 + 77], 16000, form, subtype)
    for rate in (16000, 8000, 11025):
        pieces = list(decode_sound.stream_sound(content, rate))
        assert len(pieces) > 2
        found, whole = np.concatenate(pieces), decode_sound.decode_sound(content, rate)
        assert abs(len(found) - len(whole)) <= 1  # half a sample is rounded
        both = min(len(found), len(whole))
        np.testing.assert_allclose(found[:both], whole[:both], atol=1e-6)


def test_a_file_may_be_longer_than_one_that_is_decoded_whole(monkeypatch):
    monkeypatch.setattr(decode_sound, "MAX_SECONDS", 2)
    content = encode(stream(), RATE)
    with pytest.raises(DataError, match="longer than 2 s"):
        decode_sound.decode_sound(content, RATE)
    assert sum(map(len, decode_sound.stream_sound(content, RATE))) == SECONDS * RATE


@pytest.mark.parametrize("length", [1, 39, 40, 41, 60, 99, 100, 101])
@pytest.mark.parametrize("hop", [1, 10, 40])
@pytest.mark.parametrize("size", [1, 7, 200])
def test_windows_cover_the_stream(length, hop, size):
    samples = np.arange(length, dtype=np.float32)
    found = list(windows((samples[at : at + size] for at in range(0, length, size)), 40, hop))
    ends = [window.end for window in found]
    regular = list(range(0, length - 40 + 1, hop))
    assert [window.start for window in found][: len(regular)] == regular
    assert len(found) - len(regular) == (not regular or ends[len(regular) - 1] < length)
    assert ends[-1] == length and sorted(set(ends)) == ends
    for window in found:
        np.testing.assert_array_equal(window.samples, samples[window.start : window.start + 40])


def test_a_stream_shorter_than_a_window_is_one(model):
    found = tledge.listen(model, io.BytesIO(raw(stream(tones=[("low", 0, 0.3)], seconds=0.3))))
    assert (found.windows, found.audio_seconds) == (1, 0.3)
    assert [(event.label, event.start_s, event.end_s) for event in found.events] == [("low", 0.0, 0.3)]


def test_silence_is_no_event_unless_a_class_says_so(model):
    silence = raw(stream(tones=[]))
    assert tledge.listen(model, io.BytesIO(silence), ignore=["nothing"]).events == ()
    (event,) = tledge.listen(model, io.BytesIO(silence)).events
    assert (event.label, event.start_s, event.end_s) == ("nothing", 0.0, SECONDS)
    assert heard(tledge.listen(model, io.BytesIO(raw(stream())), labels=["high"]).events) == ["high"]


def test_several_labels_overlap_and_have_their_own_thresholds(tmp_path):
    tones = [("low", 1.0, 4.0), ("high", 2.0, 6.0)]
    content = raw(stream(tones=tones))
    path = listener(tmp_path / "several.onnx", multilabel=True, thresholds=(0.4, 0.7))
    found = tledge.listen(path, io.BytesIO(content))
    assert at_the_tones(found.events, tones)
    assert found.on == {"low": 0.4, "high": 0.7}
    assert found.off == pytest.approx({"low": 0.24, "high": 0.42})
    asked = tledge.listen(path, io.BytesIO(content), on=0.99, off=0.01)
    assert asked.on == {"low": 0.99, "high": 0.99} and asked.off == {"low": 0.01, "high": 0.01}
    assert asked.events[0].start_s > found.events[0].start_s and asked.events[0].end_s > found.events[0].end_s


# ── Events ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def events(scores, min_seconds=0.0, on=0.5, off=0.3):
    """Return what is told of a class with `scores` 1, 2, … seconds into a stream that ends after the last."""
    hysteresis = Hysteresis({"a": on}, {"a": off}, min_seconds)
    told = [each for at, score in enumerate(scores, 1) for each in hysteresis.take(float(at), {"a": score})]
    return [*told, *hysteresis.finish(float(len(scores)))]


def test_an_event_ends_lower_than_it_begins():
    assert events([0.1, 0.49, 0.5, 0.31, 0.9, 0.3, 0.29, 0.49, 0.1]) == [
        SoundEvent("a", 3.0, None, 0.5, 3.0),
        SoundEvent("a", 3.0, 7.0, 0.9, 5.0),
    ]
    flicker = [0.1, 0.51, 0.49, 0.51, 0.49, 0.1]
    assert len(events(flicker)) == 2 and len(events(flicker, off=0.5)) == 4


def test_events_at_the_ends_reach_to_them():
    assert events([0.6, 0.1, 0.1, 0.8]) == [
        SoundEvent("a", 0.0, None, 0.6, 1.0),
        SoundEvent("a", 0.0, 2.0, 0.6, 1.0),
        SoundEvent("a", 4.0, None, 0.8, 4.0),
        SoundEvent("a", 4.0, 4.0, 0.8, 4.0),
    ]


def test_short_events_are_left_out_and_long_ones_told_once_they_are_long_enough():
    scores = [0.1, 0.6, 0.1, 0.7, 0.9, 0.9, 0.9, 0.1]
    assert events(scores, min_seconds=2.0) == [
        SoundEvent("a", 4.0, None, 0.9, 5.0),
        SoundEvent("a", 4.0, 8.0, 0.9, 5.0),
    ]


def test_a_mean_of_scores_stands_for_the_middle_of_its_windows():
    mean = RunningMean(2)
    found = [mean.take(float(at), np.array([score, 1 - score])) for at, score in enumerate([0.0, 1.0, 0.5])]
    assert [at for at, _ in found] == [0.0, 0.5, 1.5]
    np.testing.assert_allclose([row for _, row in found], [[0, 1], [0.5, 0.5], [0.75, 0.25]])


def test_smoothing_leaves_out_what_only_one_window_says(model):
    blip = raw(stream(tones=[("low", 3.0, 3.3)]))
    asked = {"labels": ["low"], "hop": 0.5}
    assert tledge.listen(model, io.BytesIO(blip), smooth=3, **asked).events == ()
    assert heard(tledge.listen(model, io.BytesIO(blip), smooth=1, **asked).events) == ["low"]


# ── What users do wrong ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hop": 0.0}, "--hop must be above 0 and at most a window, 0.5 s; got 0"),
        ({"hop": 0.6}, "--hop must be above 0"),
        ({"hop": float("nan")}, "--hop must be above 0"),
        ({"hop": 1e-9}, "--hop must be above 0"),
        ({"smooth": 0}, "--smooth must be 1"),
        ({"on": 1.5}, "--on must be above 0 and at most 1, got 1.5"),
        ({"on": float("nan")}, "--on must be"),
        ({"on": 0.4, "off": 0.5}, "--off must be at least 0 and at most --on, got 0.5"),
        ({"min_seconds": -1.0}, "--min-seconds must be 0 or more"),
        ({"labels": ["lo"]}, "no class 'lo'. Did you mean low"),
        ({"ignore": ["noise"]}, "no class 'noise'"),
        ({"labels": ["low"], "ignore": ["low"]}, "found none"),
        ({"rate": 3}, "A rate must be 100 to 768,000 Hz, got 3"),
        ({"channels": 0}, "1 to 64 channels, got 0"),
        ({"encoding": "s24le"}, "no encoding 's24le'"),
    ],
)
def test_what_cannot_be_is_refused(model, options, words):
    with pytest.raises(TledgeError) as caught:
        tledge.listen(model, io.BytesIO(raw(stream())), **options)
    assert words in str(caught.value) and caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (b"", {}, "held none"),
        (b"\1", {}, "held none"),
        (encode(stream(), RATE), {}, "must be raw samples, found a sound file with a header"),
        (encode(stream(), RATE, "FLAC"), {}, "must be raw samples"),
        (np.full(9000, np.nan, "<f4").tobytes(), {"encoding": "f32le"}, "found NaN or infinity"),
        (raw(stream()), {"encoding": "f32le"}, "the stream: its samples"),
    ],
)
def test_what_is_no_stream_is_refused(model, content, options, words):
    with pytest.raises(DataError) as caught:
        tledge.listen(model, io.BytesIO(content), **options)
    assert words in str(caught.value)


def test_bytes_that_are_no_whole_sample_are_counted(model):
    whole = tledge.listen(model, io.BytesIO(raw(stream())))
    odd = tledge.listen(model, io.BytesIO(raw(stream()) + b"\1"))
    assert (odd.skipped_bytes, odd.events, whole.skipped_bytes) == (1, whole.events, 0)
    stereo = tledge.listen(model, io.BytesIO(raw(np.repeat(stream(), 2)) + b"\1\2\3"), channels=2)
    assert (stereo.skipped_bytes, heard(stereo.events)) == (3, heard(whole.events))


def test_files_that_do_not_fit_are_named(tmp_path, model):
    path = tmp_path / "cut.flac"
    path.write_bytes(encode(stream(), RATE, "FLAC")[:-2000])
    told: list[SoundEvent] = []
    with pytest.raises(DataError, match=r"cut\.flac: damaged or cut short"):
        tledge.listen(model, path, on_event=told.append)
    assert "low" in heard(told)  # what was heard before was told
    with pytest.raises(DataError, match=r"gone\.wav: cannot be read"):
        tledge.listen(model, tmp_path / "gone.wav")
    with pytest.raises(TledgeError, match="are for raw samples"):
        tledge.listen(model, path, rate=16000)


def test_models_of_pictures_do_not_listen(tmp_path):
    path = make_model(tmp_path / "pictures.onnx", ("a", "b"), make_backbone(tmp_path / "graphs"))
    with pytest.raises(
        ModelError, match=r"Only models of sounds can listen; .*pictures\.onnx takes pictures"
    ) as caught:
        tledge.listen(path, io.BytesIO(b""))
    assert caught.value.exit_code == 2


# ── In a bench ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_bench_says_the_share_of_real_time(tmp_path, model):
    files = {"markdown": tmp_path / "bench.md", "html": tmp_path / "bench.html"}
    found = tledge.bench(model, seconds=0.2, threads=1, **files)
    assert found.real_time_factor == pytest.approx(found.scenarios["single_stream"].p50_ms / 1000 / 0.5)
    assert all("eal-time factor" in file.read_text() for file in files.values())
    said = CliRunner().invoke(app, ["bench", str(model), "--seconds", "0.1", "--threads", "1"]).stdout
    assert "real-time factor" in said
    assert tledge.bench(model, seconds=0.1, threads=1, scenarios=["offline"]).real_time_factor is None
    pictures = make_model(tmp_path / "pictures.onnx", ("a", "b"), make_backbone(tmp_path / "graphs"))
    assert tledge.bench(pictures, seconds=0.1, threads=1).real_time_factor is None


# ── The command ──────────────────────────────────────────────────────────────────────────────────────────────────────


def started(model: Path, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "tledge", "listen", str(model), "--input", "-", "--ignore", "nothing", *options]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    # A shell has its background jobs ignore Ctrl-C, and a test run may be one.
    listening = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(command, **pipes, bufsize=0, preexec_fn=listening)


def test_events_are_told_while_the_stream_goes_on(model):
    content, cut = raw(stream()), round(3 * RATE) * 2 - 1
    with started(model) as process:
        process.stdin.write(content[:cut])
        begins = process.stdout.readline().decode()
        process.stdin.write(content[cut : cut + 7001])
        process.stdin.write(content[cut + 7001 :])
        process.stdin.close()
        lines = [begins, *process.stdout.read().decode().splitlines()]
        notes = process.stderr.read().decode()
        assert process.wait() == 0, notes
    assert [line.split()[2:4] for line in lines[:4]] == [
        ["begins", "low"],
        ["ends", "low"],
        ["begins", "high"],
        ["ends", "high"],
    ]
    assert "2 events in 8.00 s of sound" in lines[4] and "real-time factor" in lines[4] and len(lines) == 5
    assert notes == "Listening to standard input: s16le, 8,000 Hz.\n"


def test_interrupted_it_says_what_it_heard(model):
    with started(model) as process:
        process.stdin.write(raw(stream())[: round(6 * RATE) * 2])
        lines = [process.stdout.readline().decode() for _ in range(3)]
        process.send_signal(signal.SIGINT)
        lines += process.stdout.read().decode().splitlines()
        assert process.wait() == 130
    assert [line.split()[2:4] for line in lines[2:4]] == [["begins", "high"], ["ends", "high"]]
    assert lines[4].startswith("2 events in ") and lines[5:] == ["Interrupted."]


class Interrupted(Pieces):
    """A pipe in whose silence the user types Ctrl-C."""

    def read1(self, most: int = -1) -> bytes:
        piece = super().read1(most)
        if not piece:
            raise KeyboardInterrupt
        return piece


def test_what_was_interrupted_is_a_document_too(model):
    found = tledge.listen(model, Interrupted(raw(stream()[: 6 * RATE]), seed=0), ignore=["nothing"])
    assert found.interrupted and heard(found.events) == ["low", "high"]
    assert found.events[1].end_s == found.audio_seconds == pytest.approx(6, abs=0.13)
    nothing = tledge.listen(model, Interrupted(raw(stream()[:100]), seed=0))
    assert nothing.interrupted and (nothing.windows, nothing.audio_seconds, nothing.real_time_factor) == (0, 0.0, None)


def test_a_reader_that_has_enough_ends_it(model):
    with started(model) as process:
        process.stdout.close()
        process.communicate(raw(stream()))
        assert process.returncode == 141


def test_the_document_is_for_scripts(tmp_path, model):
    path = tmp_path / "tones.wav"
    path.write_bytes(encode(stream(), RATE))
    result = CliRunner().invoke(app, ["listen", str(model), "-i", str(path), "--ignore", "nothing", "--json"])
    found = json.loads(result.stdout)
    assert result.exit_code == 0 and found["input"] == str(path) and not found["interrupted"]
    assert [event["label"] for event in found["events"]] == ["low", "high"]
    assert (found["window_s"], found["hop_s"], found["smooth"]) == (0.5, 333 / RATE, 3)
    assert found["real_time_factor"] == pytest.approx(found["work_seconds"] / SECONDS)
    refused = CliRunner().invoke(app, ["listen", str(model), "-i", "-", "--json"], input=b"")
    assert refused.exit_code == 2 and "held none" in json.loads(refused.stdout)["error"]["message"]
