"""Folders and tables of sounds: what is listed, what is left out, parts, windows, and which samples stay together."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sounds import ENCODINGS, encode, make_words, tone

from tledge import data, modalities
from tledge.commands import pipeline
from tledge.commands.clock import Clock
from tledge.data import folds
from tledge.data.opening import opened
from tledge.errors import DataError
from tledge.features.extract import key_of
from tledge.reading import read
from tledge.schema import Backbone, PreprocessSpec, SoundSpec

WINDOW = SoundSpec(16000, 16000, 4000)


def write(path, samples, rate=16000, form="WAV", subtype="PCM_16"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(samples, rate, form, subtype))
    return path


def noise(seed, seconds=1.0):
    return np.random.default_rng(seed).normal(0, 0.05, round(seconds * 16000)).astype(np.float32)


# ── Folders ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_folder_of_every_format_is_one_of_sounds(tmp_path):
    for number, (form, subtype) in enumerate(ENCODINGS):
        for kind, name in enumerate(("high", "low")):
            write(tmp_path / name / f"{number}.bin", noise(number * 2 + kind), 16000, form, subtype)
    found = data.load(tmp_path, seed=1)
    assert {sample.kind for sample in (*found.train, *found.test)} == {"audio"}
    assert len(found.train) + len(found.test) == 12 and not found.skipped and not found.remarks


def test_what_cannot_be_heard_is_left_out_and_what_is_odd_is_remarked_on(tmp_path):
    make_words(tmp_path, ("no", "yes"), 6)
    write(tmp_path / "no" / "silent.wav", np.zeros(16000, np.float32))
    write(tmp_path / "no" / "whisper.wav", noise(1) * 0.001)
    write(tmp_path / "yes" / "clipped.wav", np.clip(noise(2) * 40, -1, 1))
    write(tmp_path / "yes" / "zero.wav", np.zeros(0, np.float32))
    (tmp_path / "yes" / "empty.wav").write_bytes(b"")
    (tmp_path / "yes" / "cut.flac").write_bytes(encode(noise(3), form="FLAC")[:2000])
    (tmp_path / "yes" / "nan.wav").write_bytes(encode(np.full(100, np.nan, np.float32), subtype="FLOAT"))
    (tmp_path / "yes" / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    found = data.load(tmp_path)
    skipped = {problem.path.rpartition("/")[2]: problem.reason for problem in found.skipped}
    assert skipped.keys() == {"zero.wav", "empty.wav", "cut.flac", "nan.wav", "image.png"}
    assert skipped["zero.wav"] == "holds no samples" and "cut short" in skipped["cut.flac"]
    assert "finite" in skipped["nan.wav"] and "picture among sounds" in skipped["image.png"]
    remarks = {problem.path.rpartition("/")[2]: problem.reason for problem in found.remarks}
    assert remarks.keys() == {"silent.wav", "whisper.wav", "clipped.wav"}
    assert remarks["silent.wav"] == remarks["whisper.wav"] == "silent: nothing in it is above -60 dBFS"
    assert remarks["clipped.wav"].startswith("clipped: 0.")
    assert len(found.train) + len(found.test) == 15  # what is odd is used


def test_strict_refuses_what_cannot_be_heard_but_not_what_is_odd(tmp_path):
    make_words(tmp_path, ("no", "yes"), 4)
    write(tmp_path / "no" / "silent.wav", np.zeros(16000, np.float32))
    assert len(data.load(tmp_path, strict=True).remarks) == 1
    write(tmp_path / "yes" / "zero.wav", np.zeros(0, np.float32))
    with pytest.raises(DataError, match=r"zero\.wav: holds no samples"):
        data.load(tmp_path, strict=True)


def test_a_folder_where_no_sound_can_be_decoded_says_why(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.wav").write_bytes(encode(noise(1))[:1000] + name.encode())
    with pytest.raises(DataError, match=r"No sound can be decoded \(.*x\.wav: cut short\)"):
        data.load(tmp_path)


def test_speakers_are_held_out_as_a_whole(tmp_path):
    make_words(tmp_path, ("no", "yes"), 12)
    found = data.load(tmp_path, group_by=r"(s\d)_", test_fraction=0.25)
    trained, tested = ({sample.group for sample in split} for split in (found.train, found.test))
    assert trained | tested == {"s0", "s1", "s2", "s3"} and not trained & tested


def test_a_missing_package_is_one_line(tmp_path):
    make_words(tmp_path, ("no", "yes"), 2)
    code = (
        "import sys; sys.modules['soundfile'] = None\nfrom tledge import data, TledgeError\n"
        f"try: data.load({str(tmp_path)!r})\nexcept TledgeError as error: print(error)"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout == "soundfile is not installed. Install it with: pip install 'tledge[sound]'.\n"


# ── Tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def table(folder, *rows, header="path,label,start,end"):
    path = folder / "labels.csv"
    path.write_text("\n".join((header, *rows)) + "\n")
    return path


def long_recordings(folder):
    """Return a table of two recordings of four seconds, in each of which both classes are heard twice."""
    for number in range(4):
        sound = np.concatenate([tone(400 * (1 + second % 2) + number, 1.0) for second in range(4)])
        write(folder / f"r{number}.wav", sound)
    return table(folder, *(f"r{n}.wav,{('low', 'high')[s % 2]},{s},{s + 1}" for n in range(4) for s in range(4)))


def test_rows_of_a_table_are_parts_of_a_recording_and_a_recording_stays_on_one_side(tmp_path):
    found = data.load(long_recordings(tmp_path), test_fraction=0.25)
    assert len(found.train) + len(found.test) == 16 and not found.conflicts and not found.skipped
    assert {sample.part for sample in found.train} == {(s, s + 1.0) for s in range(4)}
    assert not {sample.path for sample in found.train} & {sample.path for sample in found.test}
    made = modalities.reader(SoundSpec(16000, 16000))
    for sample in found.train:
        spectrum = np.abs(np.fft.rfft(read(sample, made)))
        assert (spectrum.argmax() > 600) == (found.classes[sample.label] == "high")


def test_each_part_has_a_key_of_its_own(tmp_path):
    found = data.load(long_recordings(tmp_path), test_fraction=0.25)
    samples = (*found.train, *found.test)
    assert len({key_of(sample) for sample in samples}) == 16
    assert len({sample.digest for sample in samples}) == 4


def test_the_fingerprint_tells_parts_apart(tmp_path):
    path = long_recordings(tmp_path)
    before = data.load(path, test_fraction=0.25).fingerprint
    path.write_text(path.read_text().replace("r0.wav,low,0,1", "r0.wav,low,0,0.9"))
    assert data.load(path, test_fraction=0.25).fingerprint != before


def test_the_same_part_under_two_labels_is_a_conflict(tmp_path):
    path = long_recordings(tmp_path)
    path.write_text(path.read_text() + "r0.wav,high,0,1\n")
    assert {problem.path.rpartition(" ")[2] for problem in data.load(path, test_fraction=0.25).conflicts} == {"2", "18"}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("r0.wav,low,2,1", "must end after it starts"),
        ("r0.wav,low,-1,1", "must end after it starts"),
        ("r0.wav,low,1,1", "must end after it starts"),
        ("r0.wav,low,1,", "has a start, but no end"),
        ("r0.wav,low,one,2", "must be seconds; found 'one'"),
        ("r0.wav,low,nan,2", "must be seconds"),
        ("r0.wav,low,0,inf", "must be seconds"),
        ("r0.wav,low,3,9", "is not in it: it has 4 s"),
        ("r0.wav,low,7,9", "is not in it: it has 4 s"),
        ("r0.wav,low,0,1", "repeats line 2"),
    ],
)
def test_a_row_whose_part_cannot_be_is_left_out_with_its_line(tmp_path, row, words):
    path = long_recordings(tmp_path)
    path.write_text(path.read_text() + row + "\n")
    (problem,) = data.load(path, test_fraction=0.25).skipped
    assert "labels.csv line 18" in problem.path and words in problem.reason


def test_a_row_without_start_and_end_is_the_whole_and_with_an_end_alone_begins_at_zero(tmp_path):
    for number in range(4):
        write(tmp_path / f"{number}.wav", noise(number, 2.0))
    rows = ("0.wav,a,,", "1.wav,a,,1.5", "2.wav,b,0.5,1", "3.wav,b,,")
    found = data.load(table(tmp_path, *rows), test_fraction=0.5)
    parts = {sample.path[-5]: sample.part for sample in (*found.train, *found.test)}
    assert parts == {"0": None, "1": (0.0, 1.5), "2": (0.5, 1.0), "3": None}


def test_json_lines_give_parts_as_numbers(tmp_path):
    for number in range(4):
        write(tmp_path / f"{number}.wav", noise(number, 2.0))
    rows = [{"path": f"{n}.wav", "label": "ab"[n % 2], "start": 0.25, "end": 1} for n in range(4)]
    (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = data.load(tmp_path / "labels.jsonl", test_fraction=0.5)
    assert {sample.part for sample in (*found.train, *found.test)} == {(0.25, 1.0)}


def test_start_and_end_of_pictures_are_columns_like_any_other(tmp_path):
    from PIL import Image

    for number in range(4):
        Image.new("RGB", (8, 8), (number * 40, 0, 0)).save(tmp_path / f"{number}.png")
    rows = (f"{n}.png,{'ab'[n % 2]},soon,later" for n in range(4))
    found = data.load(table(tmp_path, *rows), test_fraction=0.5)
    assert {sample.part for sample in (*found.train, *found.test)} == {None} and not found.skipped


# ── Windows ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def clips(folder, seconds=2.1):
    return data.load(make_words(folder, ("no", "yes"), 5, seconds=seconds))


def test_longer_clips_become_their_windows_on_the_side_of_the_clip(tmp_path):
    before = clips(tmp_path)
    after = data.expand(before, WINDOW)
    starts = [0, 4000, 8000, 12000, 16000, 17600]
    assert [s.part[0] for s in after.train[: len(starts)]] == pytest.approx([start / 16000 for start in starts])
    assert len(after.train) == 6 * len(before.train) and len(after.test) == 6 * len(before.test)
    assert not {s.whole for s in after.train} & {s.whole for s in after.test}
    assert len({s.whole for s in after.train}) == len(before.train)
    assert data.expand(after, WINDOW) == after


def test_a_window_of_a_sample_is_that_of_the_reader(tmp_path):
    before = clips(tmp_path)
    made = modalities.reader(WINDOW)
    windows = data.expand(before, WINDOW).train[:6]
    rows = made.windows(Path(before.train[0].path))
    for sample, row in zip(windows, rows, strict=True):
        np.testing.assert_allclose(read(sample, made), row, atol=1e-6)


def test_a_part_longer_than_a_window_becomes_windows_within_it(tmp_path):
    for number in range(4):
        write(tmp_path / f"{number}.wav", noise(number, 4.0))
    found = data.load(table(tmp_path, *(f"{n}.wav,{'ab'[n % 2]},1.5,3" for n in range(4))), test_fraction=0.5)
    parts = [sample.part for sample in data.expand(found, WINDOW).train[:3]]
    assert parts == [(1.5, 2.5), (1.75, 2.75), (2.0, 3.0)]


@pytest.mark.parametrize("spec", [SoundSpec(16000, 16000), PreprocessSpec(8, 8), SoundSpec(16000, 160000, 4000)])
def test_without_hop_or_longer_clips_nothing_changes(tmp_path, spec):
    before = clips(tmp_path)
    assert data.expand(before, spec) == before


def test_windows_of_a_clip_are_in_one_fold(tmp_path):
    train = data.expand(clips(tmp_path), WINDOW).train
    places = folds.assign(train, 3, seed=0)
    for whole in {sample.whole for sample in train}:
        assert len({fold for fold, sample in zip(places, train, strict=True) if sample.whole == whole}) == 1


def mean_level(folder, samples):
    """Return a backbone of one feature, the mean of |audio|."""
    import onnx
    from onnx import TensorProto, helper

    nodes = [helper.make_node("ReduceL1", ["audio"], ["features"], axes=[1], keepdims=1)]
    audio = helper.make_tensor_value_info("audio", TensorProto.FLOAT, ["N", samples])
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 1])
    graph = helper.make_graph(nodes, "level", [audio], [features])
    path = folder / "level.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return Backbone("level", path, WINDOW, 1, hashlib.sha256(path.read_bytes()).hexdigest())


def test_rows_of_features_stay_those_of_the_samples_when_a_recording_is_lost(tmp_path):
    dataset = clips(tmp_path / "words")
    lost = dataset.train[2].path
    write(Path(lost), noise(7, 2.1))  # another sound than was listed
    backbone, clock = mean_level(tmp_path, WINDOW.samples), Clock()
    left, features = pipeline.extract_all(dataset, backbone, tmp_path, clock, provider="cpu", strict=False)
    assert features.samples == (*left.train, *left.val, *left.test)
    assert len(left.train) == 6 * (len(dataset.train) - 1) and len(left.test) == 6 * len(dataset.test)
    assert [(problem.path, problem.reason) for problem in left.skipped] == [(lost, "changed since it was listed")]
    made = modalities.reader(WINDOW)
    for sample, row in zip(features.samples, features.matrix, strict=True):
        assert row[0] == pytest.approx(np.abs(read(sample, made)).sum(), rel=1e-4)
    again, same = pipeline.extract_all(left, backbone, tmp_path, clock, provider="cpu", strict=False)
    assert (again, same.misses) == (left, 0)


def test_a_part_of_a_file_that_has_changed_is_refused(tmp_path):
    sample = data.expand(clips(tmp_path), WINDOW).train[0]
    assert str(opened(sample)) == sample.path
    write(Path(sample.path), noise(99, 2.1))
    with pytest.raises(DataError, match="changed since it was listed"):
        opened(sample)
