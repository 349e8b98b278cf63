"""Views of sounds: what each does, that its word says all of it, and noise that is not what it should be."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from sounds import encode, make_words, tone

from tledge import augment, data, modalities
from tledge.errors import DataError, TledgeError
from tledge.features.extract import key_of
from tledge.reading import read
from tledge.schema import SoundSpec

DIGEST = hashlib.sha256(b"a sound").hexdigest()


@pytest.fixture
def noise(tmp_path):
    folder = tmp_path / "noise+@ 3dB"
    (folder / "deep").mkdir(parents=True)
    rng = np.random.default_rng(0)
    hum, hiss = rng.normal(0, 0.1, 5 * 8000), rng.normal(0, 0.02, 3000)
    (folder / "hum.wav").write_bytes(encode(hum.astype(np.float32), 8000))
    (folder / "deep" / "hiss.flac").write_bytes(encode(hiss.astype(np.float32), 16000, "FLAC"))
    (folder / "notes.txt").write_text("where these were recorded")
    (folder / "silent.wav").write_bytes(encode(np.zeros(100, np.float32)))
    return folder


def made(name, row, count=1, seed=0, digest=DIGEST):
    return [augment.apply(view, digest, row, 16000) for view in augment.views(name, count, seed)]


def decibels(sound, noise):
    return 10 * np.log10(np.square(sound, dtype=float).mean() / np.square(noise, dtype=float).mean())


@pytest.mark.parametrize("name", ["shift", "gain", "noise", "shift+gain+noise"])
def test_a_view_follows_from_its_word_and_the_digest(name, noise):
    name = name.replace("noise", f"noise:{noise}@10dB")
    row = tone(level=0.3)
    row.flags.writeable = False
    first, second = augment.views(name, 2, seed=3)
    once = augment.apply(first, DIGEST, row, 16000)
    assert once.dtype == np.float32 and once.shape == row.shape and np.abs(once).max() <= 1
    np.testing.assert_array_equal(once, augment.apply(first, DIGEST, row, 16000))
    others = [(second, DIGEST), (augment.views(name, 1, seed=4)[0], DIGEST), (first, DIGEST[::-1])]
    assert all((augment.apply(view, digest, row, 16000) != once).any() for view, digest in others)
    np.testing.assert_array_equal(augment.apply(f"{first[:-1]}0", DIGEST, row, 16000), row)


def test_threads_make_the_same_views(noise):
    views, row = augment.views(f"shift+noise:{noise}@5dB", 40, seed=0), tone()
    alone = [augment.apply(view, DIGEST, row, 16000) for view in views]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda view: augment.apply(view, DIGEST, row, 16000), views))
    np.testing.assert_array_equal(together, alone)


def test_a_shift_moves_all_samples_by_up_to_a_tenth_and_lets_silence_in():
    row = np.arange(1, 1001, dtype=np.float32) / 1000
    by = []
    for view in made("shift", row, 50):
        lag = round(float(row[500] - view[500]) * 1000)
        by.append(lag)
        expected = np.zeros(1000, np.float32)
        expected[max(0, lag) : 1000 + min(0, lag)] = row[max(0, -lag) : 1000 - max(0, lag)]
        np.testing.assert_array_equal(view, expected)
    assert -100 <= min(by) < -50 and 50 < max(by) <= 100


def test_a_gain_changes_the_level_and_never_cuts_off():
    quiet, loud = tone(level=0.1), tone(level=0.9)
    levels = [decibels(view, quiet) for view in made("gain", quiet, 50)]
    assert -12 <= min(levels) < -8 and 3 < max(levels) <= 6.001
    for view in made("gain", loud, 50):
        assert np.abs(view).max() <= 1
        np.testing.assert_allclose(view / np.abs(view).max(), loud / np.abs(loud).max(), atol=1e-6)


@pytest.mark.parametrize("snr", ["10", "0", "-5", "20.5"])
def test_noise_is_mixed_at_its_ratio_to_the_sound_without_the_silence_around_it(noise, snr):
    row = np.concatenate([np.zeros(4000, np.float32), tone(seconds=0.5, level=0.2), np.zeros(4000, np.float32)])
    sound = row[np.flatnonzero(row)[0] : np.flatnonzero(row)[-1] + 1]
    for view in made(f"noise:{noise}@{snr}dB", row, 8):
        scale = 1.0 if np.abs(view).max() < 1 else np.abs(view).max() / np.abs(row).max()
        assert decibels(sound, (view - row)) == pytest.approx(float(snr), abs=0.01) or scale != 1.0
        assert (view[:4000] != 0).mean() > 0.9  # a microphone hears the noise all the time


def test_a_mixture_that_would_be_cut_off_is_made_softer(noise):
    for view in made(f"noise:{noise}@-10dB", tone(level=0.9), 8):
        assert np.abs(view).max() == pytest.approx(1)


def test_to_silence_nothing_is_added(noise):
    silence = np.zeros(16000, np.float32)
    for view in made(f"shift+gain+noise:{noise}@10dB", silence, 3):
        np.testing.assert_array_equal(view, silence)


def test_noise_has_the_rate_of_the_model(tmp_path):
    (tmp_path / "hum.wav").write_bytes(encode(tone(440, 5.0, 44100), 44100))
    (view,) = made(f"noise:{tmp_path}@0dB", np.full(16000, 1e-3, np.float32))
    assert np.abs(np.fft.rfft(view - view.mean())).argmax() == 440


def test_other_noise_makes_other_words_and_its_name_and_place_do_not_count(noise):
    (before,) = augment.views(f"noise:{noise}@10dB", 1, 0)
    (noise / "hum.wav").rename(noise / "renamed.wav")
    assert augment.views(f"noise:{noise}@10dB", 1, 0) == (before,)
    (noise / "more.wav").write_bytes(encode(tone()))
    assert augment.views(f"noise:{noise}@10dB", 1, 0) != (before,)
    with pytest.raises(DataError, match="changed since the views were named"):
        augment.apply(before, DIGEST, tone(), 16000)


@pytest.mark.parametrize(
    "name",
    [
        "shifts",
        "shift+",
        "+shift",
        "noise",
        "noise:",
        "noise:@10dB",
        "noise:x@dB",
        "noise:x@10",
        "gain+flip",
        "shift gain",
    ],
)
def test_names_that_there_are_not_are_refused(name):
    with pytest.raises(TledgeError, match="There is no augmentation called"):
        augment.check_name(name)


def test_a_folder_without_noise_is_refused(tmp_path):
    for place in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError, match="There is no noise in"):
            augment.views(f"noise:{place}@10dB", 1, 0)
    (tmp_path / "cut.wav").write_bytes(encode(tone())[:3000])
    with pytest.raises(DataError, match=r"Noise .*cut\.wav: cut short"):
        augment.views(f"noise:{tmp_path}@10dB", 1, 0)


def test_views_are_for_one_kind_of_sample():
    augment.check_kind("shift+gain", "audio")
    augment.check_kind("flip", "image")
    with pytest.raises(TledgeError, match=r"'shift' is for sounds.*For pictures there are: flip"):
        augment.check_kind("shift", "image")
    with pytest.raises(TledgeError, match=r"'flip' is for pictures.*shift, gain, noise:DIR@10dB"):
        augment.check_kind("flip", "audio")
    with pytest.raises(TledgeError, match="another kind"):
        augment.check_kind("flip", "vector")


@pytest.mark.parametrize("row", [np.zeros(9), np.zeros((3, 3), np.float32), np.zeros((4, 4, 3), np.uint8)])
def test_other_arrays_are_a_type_error(row):
    with pytest.raises(TypeError, match="A sound must be"):
        augment.apply("shift/0/1", DIGEST, row, 16000)


def test_views_of_samples_have_keys_of_their_own_and_windows_differ(tmp_path, noise):
    dataset = data.load(make_words(tmp_path / "words", ("no", "yes"), 4, seconds=2.0))
    spec = SoundSpec(16000, 16000, 8000)
    samples = data.expand(dataset, spec).train
    word = augment.views(f"shift+noise:{noise}@10dB", 1, 0)[0]
    views = [replace(sample, view=word) for sample in samples]
    assert len({key_of(sample) for sample in (*samples, *views)}) == 2 * len(samples)
    made_by = modalities.reader(spec)
    lags = {
        int(np.abs(read(view, made_by) - read(sample, made_by)).sum())
        for view, sample in zip(views, samples, strict=True)
    }
    assert len(lags) > 1
