"""Samples as a reader sees them: a small picture, the beginning of a text, or the outline of a sound and the sound."""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tledge.errors import TledgeError
from tledge.modalities import READERS, Shown
from tledge.report import thumbnails
from tledge.schema import Mistake

MOST_LETTERS = 300
MOST_AUDIO_BYTES = 100_000  # of letters in the page
_COLUMNS, _HALF = 160, 50  # of the outline, whose box is twice `_HALF` high


@dataclass(frozen=True, slots=True)
class Exhibit:
    """A mistake, and what is shown of it: data URIs of a JPEG and a WAV, a text, the `d` of an SVG path; "" for none.

    `noun` is what a user calls such a sample.
    """

    mistake: Mistake
    name: str
    noun: str
    picture: str = ""
    text: str = ""
    outline: str = ""
    audio: str = ""


def exhibits(mistakes: Sequence[Mistake]) -> list[Exhibit]:
    """Return what to show of each mistake, in their order.

    A sample that can no longer be read is shown by its name alone: by then the model is trained, and a file that was
    moved or damaged meanwhile is no reason to lose the report.
    """
    with ThreadPoolExecutor() as pool:  # decoders work outside Python's lock
        return list(pool.map(_exhibit, mistakes))


def _exhibit(mistake: Mistake) -> Exhibit:
    reader = READERS[mistake.kind]
    name = Path(mistake.path).name
    source = Path(mistake.path) if mistake.value is None else mistake.value
    try:
        shown = reader.shown(source, mistake.part)
        return Exhibit(mistake, name, reader.noun, **_parts(shown))
    except (TledgeError, OSError, ValueError):
        return Exhibit(mistake, name, reader.noun)


def _parts(shown: Shown) -> dict[str, str]:
    if shown.pixels is not None:
        return {"picture": thumbnails.jpeg(shown.pixels)}
    if shown.samples is not None:
        return {"outline": outline(shown.samples), "audio": _audio(shown.samples, shown.rate)}
    cut = len(shown.text) > MOST_LETTERS
    return {"text": shown.text[:MOST_LETTERS] + "…" * cut}


def outline(samples: np.ndarray) -> str:
    """Return the SVG path of the highest and the lowest of float32 `samples` [n], -1..1, in each of 160 columns."""
    columns = np.array_split(samples, min(_COLUMNS, len(samples)))
    heights = [(_HALF * (1 - column.max()), _HALF * (1 - column.min())) for column in columns]
    width = _COLUMNS / len(columns)
    return "".join(
        f"M{(at + 0.5) * width:.4g} {high:.1f}V{max(low, high + 0.5):.1f}" for at, (high, low) in enumerate(heights)
    )


def _audio(samples: np.ndarray, rate: int) -> str:
    """Return a WAV of 16 bits as a data URI, "" where it is too long for the page or its rate is not known."""
    if not rate or 2 * len(samples) * 4 / 3 > MOST_AUDIO_BYTES:
        return ""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.rint(samples * 32767).astype("<i2").tobytes())
    return "data:audio/wav;base64," + base64.b64encode(stream.getvalue()).decode()
