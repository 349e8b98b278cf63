"""Sample files that are made up to measure with, where a user names none: two sizes of each kind."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable, Iterator

import numpy as np

from tledge.measurement.box.sample_files import SampleFiles
from tledge.modalities import Reader

_EACH = 2
_SIZES = ((1920, 1080), (640, 480))  # width, height
_QUALITY, _NOISE = 90, 6.0  # noise in grey levels
_MUSIC_RATE = 44_100
_SENTENCES = (
    "How long does the battery of the sensor at the gate last?",
    "Please send the invoice for the pump to our new address.",
    "The conveyor stopped twice this morning and nobody knows why.",
    "Which of the two valves has to be closed before the filter is changed?",
    "After the update the display shows the wrong temperature.",
    "We ordered forty bearings, and thirty-eight of them were in the box.",
)


def made_up(reader: Reader) -> tuple[SampleFiles, ...]:
    """Return files that `reader` reads, of two sizes; none for what comes in no files of its own."""
    make = _MAKERS.get(reader.kind)
    return tuple(make(reader)) if make else ()


# ── Pictures: JPEG files of 2 and of 0.3 megapixels, at the quality and size of a camera's ───────────────────────────


def _pictures(_: Reader) -> Iterator[SampleFiles]:
    for width, height in _SIZES:
        files = tuple((f"drawn {seed}", _jpeg(_draw(width, height, seed))) for seed in range(_EACH))
        yield SampleFiles(f"drawn {width} × {height}", files)


def _draw(width: int, height: int, seed: int) -> np.ndarray:
    """Return soft shapes and noise, uint8 [height, width, 3]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float32) / height
    waves = [np.sin(x * a + y * b + c) for a, b, c in rng.uniform(-20, 20, (6, 3)).astype(np.float32)]
    soft = np.stack([waves[i] + waves[i + 1] * waves[i + 2] for i in range(3)], axis=-1)
    picture = 128 + 50 * soft + _NOISE * rng.standard_normal((height, width, 1), np.float32)
    return picture.clip(0, 255).astype(np.uint8)


def _jpeg(pixels: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


# ── Sounds: WAV files as long as a window, as the model wants them and as a recorder writes them ─────────────────────


def _sounds(reader: Reader) -> Iterator[SampleFiles]:
    for rate, channels in ((reader.rate, 1), (_MUSIC_RATE, 2)):
        files = tuple((f"drawn {seed}", _wav(reader.seconds or 1.0, rate, channels, seed)) for seed in range(_EACH))
        yield SampleFiles(f"drawn {rate / 1000:g} kHz {('mono', 'stereo')[channels - 1]}", files)


def _wav(seconds: float, rate: int, channels: int, seed: int) -> bytes:
    """Return 16-bit noise that swells and falls."""
    length = round(seconds * rate)
    swelling = 0.3 * np.sin(np.linspace(0, np.pi, length))[:, None]
    samples = np.random.default_rng(seed).uniform(-1, 1, (length, channels)) * swelling
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes((samples * 32767).astype("<i2").tobytes())
    return file.getvalue()


# ── Texts: a sentence, and all of them ───────────────────────────────────────────────────────────────────────────────


def _texts(_: Reader) -> Iterator[SampleFiles]:
    yield SampleFiles("a sentence", tuple((f"sentence {i}", each.encode()) for i, each in enumerate(_SENTENCES)))
    yield SampleFiles("a paragraph", (("paragraph", " ".join(_SENTENCES).encode()),))


_MAKERS: dict[str, Callable[[Reader], Iterator[SampleFiles]]] = {"image": _pictures, "audio": _sounds, "text": _texts}
