"""Sounds made by code, for the tests that need some."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

ENCODINGS = (
    ("WAV", "PCM_16"),
    ("WAV", "FLOAT"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
)
LOSSLESS = ENCODINGS[:3]
NAMES = [f"{form}-{subtype}" for form, subtype in ENCODINGS]


def tone(hertz: float = 440.0, seconds: float = 1.0, rate: int = 16000, level: float = 0.5) -> np.ndarray:
    """Return a sine, float32 [n]."""
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def encode(samples: np.ndarray, rate: int = 16000, form: str = "WAV", subtype: str = "PCM_16") -> bytes:
    """Return the bytes of a sound file that holds `samples` [n] or [n, channels]."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=form, subtype=subtype)
    return buffer.getvalue()


def draw_word(kind: int, rng: np.random.Generator, seconds: float, rate: int = 16000) -> np.ndarray:
    """Return a gliding tone in noise, float32 [n]: `kind` sets pitch and glide, chance sets loudness and phase."""
    time = np.arange(round(seconds * rate)) / rate
    pitch = 250 * 1.6**kind * (1 + 0.2 * (-1) ** kind * time / seconds)
    voice = np.sin(2 * np.pi * np.cumsum(pitch) / rate + rng.uniform(0, 6.3))
    return (rng.uniform(0.1, 0.5) * voice + rng.normal(0, 0.02, len(time))).astype(np.float32)


def make_words(folder: Path, classes: tuple[str, ...], per_class: int, seconds: float = 1.0, seed: int = 0) -> Path:
    """Write `per_class` sounds into `folder`/class for each class, WAV and FLAC in turn; returns `folder`."""
    rng = np.random.default_rng(seed)
    for kind, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            form = ("WAV", "FLAC")[number % 2]
            path = folder / name / f"s{number % 4}_{number:03}.{form.lower()}"
            path.write_bytes(encode(draw_word(kind, rng, seconds), form=form))
    return folder
