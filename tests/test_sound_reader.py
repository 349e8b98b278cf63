"""SoundReader: clips of any length become windows, from files and arrays, and golden samples come back."""

from __future__ import annotations

import numpy as np
import pytest
from sounds import encode, tone

from tledge.errors import DataError
from tledge.modalities.sound import SoundReader, window_starts
from tledge.schema import GoldenSample, SoundSpec

RAMP = (np.arange(1, 101) / 200).astype(np.float32)


def reader(samples=40, hop=0, fit="centre", rate=16000) -> SoundReader:
    return SoundReader(SoundSpec(rate, samples, hop, fit), {})


def test_a_shorter_clip_stands_in_the_middle_of_silence_or_at_its_start():
    middle, start = reader(140).load(RAMP), reader(140, fit="start").load(RAMP)
    np.testing.assert_array_equal(middle, np.concatenate([np.zeros(20), RAMP, np.zeros(20)]))
    np.testing.assert_array_equal(start, np.concatenate([RAMP, np.zeros(40)]))
    assert middle.dtype == start.dtype == np.float32


def test_of_a_longer_clip_the_middle_or_the_start_is_taken():
    np.testing.assert_array_equal(reader().load(RAMP), RAMP[30:70])
    np.testing.assert_array_equal(reader(fit="start").load(RAMP), RAMP[:40])
    np.testing.assert_array_equal(reader(100).load(RAMP), RAMP)


def test_odd_lengths_lose_no_sample():
    row = reader(8).load(RAMP[:5])
    np.testing.assert_array_equal(row, [0, *RAMP[:5], 0, 0])


@pytest.mark.parametrize(
    ("length", "hop", "starts"),
    [
        (100, 30, [0, 30, 60]),
        (100, 25, [0, 25, 50, 60]),
        (101, 30, [0, 30, 60, 61]),
        (100, 1000, [0, 60]),
        (41, 10, [0, 1]),
        (40, 10, [0]),
        (7, 10, [0]),
        (100, 0, [30]),
    ],
)
def test_windows_cover_all_of_a_longer_clip_and_the_last_ends_with_it(length, hop, starts):
    spec = SoundSpec(16000, 40, hop)
    assert window_starts(length, spec) == starts
    rows = reader(hop=hop).windows(RAMP[:1].repeat(length))
    assert len(rows) == len(starts) and all(row.shape == (40,) for row in rows)


def test_windows_are_the_clip_at_their_starts():
    rows = reader(hop=25).windows(RAMP)
    for row, start in zip(rows, [0, 25, 50, 60], strict=True):
        np.testing.assert_array_equal(row, RAMP[start : start + 40])


def test_a_part_of_a_file_is_the_window_of_the_whole():
    noise = np.random.default_rng(0).normal(0, 0.1, 3 * 44100).astype(np.float32)
    contents = encode(noise, 44100, "WAV", "FLOAT")
    made = reader(16000, hop=5000)
    rows = made.windows(contents)
    for row, start in zip(rows, window_starts(48000, made.spec), strict=True):
        part = made.load(contents, (start / 16000, (start + 16000) / 16000))
        np.testing.assert_allclose(part, row, atol=1e-5)


def test_a_part_of_an_array_is_taken_at_the_rate_of_the_model():
    np.testing.assert_array_equal(reader(40).load(RAMP, (10 / 16000, 50 / 16000)), RAMP[10:50])
    with pytest.raises(DataError, match="is not in it"):
        reader(40).load(RAMP, (1.0, 2.0))


def test_arrays_of_every_type_are_one_sound():
    wanted = reader(16000).load(tone())
    for sound in (tone().astype(np.float64), np.rint(tone() * 32768).astype(np.int16), np.stack([tone()] * 3, axis=1)):
        np.testing.assert_allclose(reader(16000).load(sound), wanted, atol=1 / 32768)
    np.testing.assert_allclose(reader(16000).load(encode(tone())), wanted, atol=1 / 32768)


def test_an_array_that_is_given_is_not_written_to():
    loud = tone(level=2.0)
    before = loud.copy()
    assert reader(16000).load(loud).max() == 1
    np.testing.assert_array_equal(loud, before)


@pytest.mark.parametrize(
    "odd",
    [
        np.zeros(0, np.float32),
        np.zeros((0, 2), np.float32),
        np.zeros((2, 0), np.float32),
        np.zeros((2, 2, 2), np.float32),
        np.float32(1),
        np.zeros(9, np.uint8),
        np.zeros(9, np.int64),
        np.zeros(9, complex),
        np.array(["a"]),
    ],
)
def test_arrays_that_are_no_sound_are_refused(odd):
    with pytest.raises(TypeError, match=r"A sound must be a path, bytes, or samples .* at 16,000 Hz; found"):
        reader().named(np.asarray(odd))
    with pytest.raises(DataError, match="the model takes sounds"):
        reader().load(np.asarray(odd))


@pytest.mark.parametrize(("number", "words"), [(np.nan, "finite"), (np.inf, "finite"), (32767.0, "full scale")])
def test_arrays_of_odd_numbers_are_refused(number, words):
    with pytest.raises(DataError, match=words):
        reader().load(np.array([0, number], np.float32))


def test_golden_samples_come_back_and_then_stay_the_same():
    row = reader(16000).load(np.random.default_rng(0).normal(0, 0.5, 16000))
    golden = reader(16000).to_golden(row)
    back = reader(16000).from_golden(golden)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, row, atol=0.5001 / 32767)
    assert reader(16000).to_golden(back) == golden


@pytest.mark.parametrize("sound", ["", "AAA=", "not base64!", "AAAA"])
def test_a_golden_sample_of_another_kind_is_refused(sound):
    with pytest.raises(ValueError):
        reader(16000).from_golden(GoldenSample("", (), sound=sound))


def test_rows_are_fed_under_the_name_of_the_input_filled_up_with_silence():
    made = reader(4)
    fed = made.feed([np.ones(4, np.float32)] * 2, 3)
    np.testing.assert_array_equal(fed["audio"], [[1] * 4, [1] * 4, [0] * 4])
    assert fed["audio"].dtype == np.float32 and made.inputs() == {"audio": ("tensor(float)", [4])}


def test_an_array_of_two_axes_is_several_sounds():
    made = reader(4)
    assert len(made.listed(np.zeros((3, 4), np.float32))) == 3
    assert len(made.listed(np.zeros(4, np.float32))) == 1


@pytest.mark.parametrize(
    "spec",
    [
        SoundSpec(0, 40),
        SoundSpec(16000, 0),
        SoundSpec(16000, 40, -1),
        SoundSpec(16000, 40, fit="end"),
        SoundSpec(-1, 1),
    ],
)
def test_specs_that_cannot_be_are_refused(spec):
    with pytest.raises(ValueError):
        SoundReader.check(spec)
    SoundReader.check(SoundSpec(16000, 40, 10, "start"))


def test_an_error_about_a_file_names_it(tmp_path):
    (tmp_path / "word.wav").write_bytes(b"RIFF")
    with pytest.raises(DataError, match=r"Sound .*word\.wav: damaged, or not one of"):
        reader().named(tmp_path / "word.wav")
