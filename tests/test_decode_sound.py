"""Sound files → samples: every format, rate and channel count, parts of them, and files that are not what they say."""

from __future__ import annotations

import io
import os
import random
import struct
import subprocess
import sys
import wave

import numpy as np
import pytest
from sounds import ENCODINGS, LOSSLESS, NAMES, encode, tone

from tledge.decode_sound import decode_sound, duration, gauge
from tledge.errors import DataError
from tledge.sound_formats import is_sound

each_encoding = pytest.mark.parametrize(("form", "subtype"), ENCODINGS, ids=NAMES)


def riff(data: bytes, *, announced: int | None = None, rate=16000, channels=1, code=1, bits=16, before=b"") -> bytes:
    """Return a WAV whose header says what it is told to."""
    width = channels * bits // 8
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, code, channels, rate, rate * width & 0xFFFFFFFF, width & 0xFFFF, bits)
    size = len(data) if announced is None else announced
    body = b"WAVE" + form + before + struct.pack("<4sI", b"data", size) + data
    return struct.pack("<4sI", b"RIFF", len(body) & 0xFFFFFFFF) + body


def reason(source, rate=16000, start=0.0, end=None) -> str:
    with pytest.raises(DataError) as caught:
        decode_sound(source, rate, start, end)
    assert "\n" not in caught.value.message
    return caught.value.message


# ── What comes out ───────────────────────────────────────────────────────────────────────────────────────────────────


@each_encoding
def test_every_format_gives_its_samples_from_bytes_and_from_a_path(tmp_path, form, subtype):
    sound, contents = tone(), encode(tone(), 16000, form, subtype)
    path = tmp_path / "no suffix\udcff"
    path.write_bytes(contents)
    got = decode_sound(contents, 16000)
    assert got.dtype == np.float32 and got.shape == (16000,)
    # Lossy ones lose little of a tone, and nothing of its place in time.
    np.testing.assert_allclose(got[400:-400], sound[400:-400], atol=2 / 32768 if (form, subtype) in LOSSLESS else 0.1)
    np.testing.assert_array_equal(decode_sound(path, 16000), got)
    assert duration(contents) == 1.0


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "DOUBLE", "ULAW", "IMA_ADPCM"])
def test_other_words_in_a_wav_become_the_same_samples(subtype):
    got = decode_sound(encode(tone(), 16000, "WAV", subtype), 16000)
    np.testing.assert_allclose(got[100:16000], tone()[100:], atol=0.03)


@pytest.mark.parametrize("native", [8000, 11025, 44100, 48000, 96000])
def test_any_rate_is_resampled_to_the_same_tone(native):
    got = decode_sound(encode(tone(440, 1.0, native), native), 16000)
    assert got.shape == (16000,)
    np.testing.assert_allclose(got[800:-800], tone()[800:-800], atol=2e-3)


def test_what_is_above_half_the_rate_is_gone_and_does_not_come_back_as_another_tone():
    assert np.abs(decode_sound(encode(tone(6000, 1.0, 16000)), 8000)[400:-400]).max() < 1e-3


def test_channels_are_averaged():
    left, right = tone(300), tone(700)
    got = decode_sound(encode(np.stack([left, right], axis=1), 16000, "WAV", "FLOAT"), 16000)
    np.testing.assert_allclose(got, (left + right) / 2, atol=1e-6)


def test_integers_at_full_scale_stay_within_it():
    low, high = decode_sound(riff(struct.pack("<2h", -32768, 32767)), 16000)
    assert (low, high) == (-1.0, np.float32(32767 / 32768))


def test_a_little_over_full_scale_is_cut_off_and_another_scale_is_refused():
    loud = decode_sound(encode(tone(level=1.5), 16000, "WAV", "FLOAT"), 16000)
    assert loud.max() == 1 and loud.min() == -1
    assert "3.28e+04 times full scale" in reason(encode(tone(level=32767.0), 16000, "WAV", "FLOAT"))


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate", [16000, 8000])
def test_numbers_that_are_not_finite_are_refused(odd, rate):
    sound = tone()
    sound[4000] = odd
    assert "finite" in reason(riff(sound.tobytes(), code=3, bits=32), rate)


# ── Parts ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@each_encoding
@pytest.mark.parametrize("native", [16000, 48000])
def test_a_part_is_what_the_same_seconds_of_the_whole_are(form, subtype, native):
    noise = np.random.default_rng(0).normal(0, 0.1, 3 * native).astype(np.float32)
    contents = encode(noise, native, form, subtype)
    whole = decode_sound(contents, 16000)
    for start, end in ((0.0, 1.0), (0.29, 1.29), (1.00003, 2.00003), (2.0, 3.0), (2.9, 3.05)):
        part = decode_sound(contents, 16000, start, end)
        np.testing.assert_allclose(part, whole[round(start * 16000) : round(end * 16000)], atol=1e-5)


@pytest.mark.parametrize("native", [8000, 11025, 22051, 44101, 192000])
def test_parts_at_odd_rates_have_their_length_and_place(native):
    noise = np.random.default_rng(1).normal(0, 0.1, 3 * native).astype(np.float32)
    contents = encode(noise, native, "WAV", "FLOAT")
    whole = decode_sound(contents, 16000)
    for start, length in ((0.1, 1.0), (0.7, 0.025), (1.9, 1.0)):
        part = decode_sound(contents, 16000, start, start + length)
        assert abs(len(part) - round(length * 16000)) <= 1
        np.testing.assert_allclose(part, whole[round(start * 16000) :][: len(part)], atol=1e-5)


@pytest.mark.parametrize("span", [(-1, 1), (0.5, 0.5), (0.8, 0.2), (float("nan"), 1), (0, float("nan")), (0, np.inf)])
def test_a_part_that_cannot_be_is_refused(span):
    assert "must begin" in reason(encode(tone()), 16000, *span)


def test_a_part_must_be_in_the_file_but_may_end_a_rounding_later():
    contents = encode(tone())
    assert "it has 1 s" in reason(contents, 16000, 1.0, 2.0)
    assert "it has 1 s" in reason(contents, 16000, 0.5, 1.5)
    assert len(decode_sound(contents, 16000, 0.5, 1.05)) == 8000


def test_more_than_an_hour_is_refused_but_parts_of_it_are_read(tmp_path):
    path = tmp_path / "long.wav"
    with path.open("wb") as file:  # a hole in the file: two hours of silence that take no room
        file.write(riff(b"", announced=2 * 3600 * 8000, rate=8000, bits=8))
        file.truncate(44 + 2 * 3600 * 8000)
    assert "longer than 3,600 s (7,200 s)" in reason(path, 8000)
    assert len(decode_sound(path, 16000, 7000, 7001.5)) == 24000
    assert duration(path) == 7200


# ── Damage ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@each_encoding
def test_damaged_files_give_a_reason_or_finite_samples(form, subtype):
    sound = encode(tone(seconds=0.5), 16000, form, subtype)
    refused = 0
    for seed in range(300):
        chance, damaged = random.Random(seed), bytearray(sound)
        if seed % 3 == 0:
            del damaged[chance.randrange(len(damaged)) :]
        for _ in range(0 if seed % 3 == 0 else chance.choice((1, 5, 50))):
            damaged[chance.randrange(len(damaged) if seed % 3 == 1 else 200)] = chance.randrange(256)
        try:
            got = decode_sound(bytes(damaged), 16000)
        except DataError as error:
            assert error.message and "\n" not in error.message
            refused += 1
        else:
            assert got.dtype == np.float32 and got.ndim == 1 and len(got) and np.abs(got).max() <= 1
    assert refused > 30


@pytest.mark.parametrize(("form", "subtype"), ENCODINGS[:5], ids=NAMES[:5])
def test_a_file_cut_short_is_refused(tmp_path, form, subtype):
    sound = encode(tone(seconds=2.0), 16000, form, subtype)
    path = tmp_path / "cut"
    for share in (0.3, 0.6, 0.97):
        cut = sound[: int(len(sound) * share)]
        path.write_bytes(cut)
        assert "cut short" in reason(cut)
        assert "cut short" in reason(path)


def test_an_mp3_that_says_how_long_it_is_is_refused_when_it_is_cut():
    sound = encode(tone(seconds=2.0), 16000, "MP3", "MPEG_LAYER_III")
    assert "cut short" in reason(sound[: len(sound) // 2])


@pytest.mark.parametrize("announced", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_a_wav_from_a_pipe_that_knows_no_length_reaches_to_its_end(announced):
    data = (tone() * 32767).astype("<i2").tobytes()
    np.testing.assert_allclose(decode_sound(riff(data, announced=announced), 16000), tone(), atol=1e-4)


def test_a_flac_from_a_pipe_that_knows_no_length_says_so():
    contents = bytearray(encode(tone(), 16000, "FLAC"))
    assert struct.unpack(">Q", contents[18:26])[0] & (1 << 36) - 1 == 16000  # RFC 9639, section 8.2
    contents[21] &= 0xF0
    contents[22:26] = bytes(4)
    assert "does not say how long it is" in reason(bytes(contents))


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (b"", "empty file"),
        (b"RIFF", "damaged, or not one of WAV, FLAC, OGG, MP3"),
        (b"hello, world", "damaged, or not one of WAV, FLAC, OGG, MP3"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "damaged, or not one of"),
        (riff(b""), "holds no samples"),
        (riff(bytes(100), rate=0), ""),
        (riff(bytes(100), rate=1), "rate is 1 Hz"),
        (riff(bytes(100), rate=0xFFFFFFFF), ""),
        (riff(bytes(100), rate=2_000_000), "rate is 2,000,000 Hz"),
        (riff(bytes(100), channels=0), "damaged"),
        (riff(bytes(100), channels=65535), "damaged"),
        (riff(bytes(100), announced=2_000_000_000), "cut short"),
        (riff(bytes(100), code=0x9999), "damaged"),
        (b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * 5000, "damaged"),
        (b"OggS" + bytes(23), "cut short"),
        (b"fLaC" + bytes(60), "damaged"),
        (b"ID3\4\0\0\0\0\0\0" + bytes(3000), "damaged"),
        (b"\xff\xfb\x90\x00" + bytes(10), "damaged"),
    ],
)
def test_headers_that_cannot_be_are_refused_in_a_clause(contents, words):
    assert words in reason(contents)


def test_a_billion_frames_announced_take_no_memory():
    flac = bytearray(encode(tone(), 16000, "FLAC"))
    flac[22:26] = struct.pack(">I", 57_000_000)  # just under an hour, of which one second is there
    code = (
        "import resource, sys\nfrom tledge.decode_sound import decode_sound\nfrom tledge.errors import DataError\n"
        "import soundfile, soxr\nbefore = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    decode_sound(sys.stdin.buffer.read(), 48000)\nexcept DataError as error:\n    print(error.message)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    child = subprocess.run([sys.executable, "-c", code], input=bytes(flac), capture_output=True, check=True)
    message, grown_mb = child.stdout.decode().splitlines()
    assert "damaged" in message or "cut short" in message
    assert int(grown_mb) < 100


def test_what_is_no_regular_file_is_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert reason(tmp_path / "pipe") == "not a regular file"
    assert reason(tmp_path) == "not a regular file"
    assert "cannot be read" in reason(tmp_path / "none.wav")
    assert "cannot be read" in reason("nul\0byte")


def test_a_missing_package_is_one_line():
    code = (
        "import sys; sys.modules['soundfile'] = None\nfrom tledge.decode_sound import decode_sound\n"
        "from tledge.errors import MissingExtra\n"
        "try: decode_sound(b'', 16000)\nexcept MissingExtra as error: print(error)"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout == "soundfile is not installed. Install it with: pip install 'tledge[sound]'.\n"


# ── Known by content ─────────────────────────────────────────────────────────────────────────────────────────────────


@each_encoding
def test_sounds_are_known_by_their_content(form, subtype):
    assert is_sound(encode(tone(), 16000, form, subtype))


def test_a_wav_of_the_standard_library_is_known_and_read():
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(1600))
    assert is_sound(buffer.getvalue()) and len(decode_sound(buffer.getvalue(), 16000)) == 1600


@pytest.mark.parametrize("kbits", [32, 64, 128, 320])
@pytest.mark.parametrize("rate", [32000, 44100, 48000])
def test_the_length_of_an_mp3_frame_leads_to_the_next(kbits, rate):
    code = (b"\xff\xfb", (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320).index(kbits) + 1)
    header = code[0] + bytes([code[1] << 4 | (44100, 48000, 32000).index(rate) << 2, 0])
    frame = header + bytes(144 * kbits * 1000 // rate - 4)
    assert is_sound(frame + frame)
    assert not is_sound(frame + bytes(4) + frame)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"ID3 is not a tag but a text",
        b"ID3",
        b"\xff\xfe" + "UTF-16 text".encode("utf-16-le") * 50,
        b"\xff\xfb",
        b"\xff\xfb\x90\x00" + bytes(5000),
        b"\xff" * 5000,
        b"\xff\xd8\xff\xe0" + bytes(100),  # JPEG
        b"\xff\xf1\x50\x80" + bytes(100),  # AAC
        b"RIFF\x10\0\0\0WEBPVP8 ",
        b"RIFF\x10\0\0\0AVI ",
        b"Ogg is a word",
    ],
)
def test_other_files_are_not_taken_for_sounds(head):
    assert not is_sound(head)


def test_bytes_by_chance_are_hardly_ever_an_mp3():
    rng = np.random.default_rng(0)
    heads = [b"\xff\xfb" + rng.bytes(4000) for _ in range(2000)]
    assert sum(map(is_sound, heads)) <= 2


# ── Loudness ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_loudness_counts_what_is_at_full_scale_in_every_channel():
    sound = np.zeros((1000, 2), np.float32)
    sound[:10, 1], sound[10:15, 1] = 1.0, -1.0
    found = gauge(encode(sound))
    assert found.clipped == 15 / 2000 and found.peak == 1.0 and found.seconds == 1 / 16


def test_loudness_of_eight_bits_knows_their_full_scale():
    assert gauge(riff(b"\xff" * 50 + b"\x80" * 50, bits=8)).clipped == 0.5


def test_loudness_of_a_part_is_that_of_the_part():
    sound = np.concatenate([np.zeros(16000, np.float32), tone()])
    assert gauge(encode(sound), 0, 1).peak == 0
    assert gauge(encode(sound), 1, 2).peak == pytest.approx(0.5, abs=1e-3)
