"""Views of sounds: shifted in time, louder or softer, and mixed with noise from a folder; several of these by `+`.

| Policy            | What it does                                                                                   |
|-------------------|------------------------------------------------------------------------------------------------|
| `shift`           | moves the sound by up to a tenth of its window, either way; silence moves in                   |
| `gain`            | between 12 dB softer and 6 dB louder, but never so loud that anything is cut off               |
| `noise:DIR@10dB`  | adds a random stretch of a random sound file in DIR, 10 dB softer than the sound on average    |

The signal-to-noise ratio is that of mean squares: of the sound from its first to its last sample that is not 0, so that
silence put around it does not count, and of the noise where it is added. Where the mixture would be cut off, all of it
is made softer.
"""

from __future__ import annotations

import functools
import hashlib
import os
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tledge.decode_sound import decode_sound, gauge
from tledge.errors import DataError
from tledge.sound_formats import is_sound

NAMES = ("shift", "gain", "noise:DIR@10dB")
_SHIFT, _SOFTER_DB, _LOUDER_DB = 0.1, -12.0, 6.0
_HEAD_BYTES = 1 << 16
_NEXT = re.compile(r"\+(?=(?:shift|gain|noise:))")
_NOISE = re.compile(r"noise:(?P<folder>.+?)@(?P<snr_db>-?\d{1,3}(?:\.\d+)?)dB(?:#(?P<digest>[0-9a-f]{16}))?", re.DOTALL)


def knows(name: str) -> bool:
    """Tell whether `name` is a policy, or several with a + between them."""
    return all(step in _STEPS or _NOISE.fullmatch(step) for step in _NEXT.split(name))


def settled(name: str) -> str:
    """Return `name` with the digest of the noise behind each folder of it: all that a view's word has to say.

    Raises DataError when a folder holds no sound, or one that cannot be used.
    """
    return "+".join(_settled(step) for step in _NEXT.split(name))


def _settled(step: str) -> str:
    match = _NOISE.fullmatch(step)
    return step if match is None else f"{step.partition('#')[0]}#{_noises(match['folder']).digest}"


def apply(name: str, index: int, chance: random.Random, row: np.ndarray, rate: int) -> np.ndarray:
    """Return view `index` of `row`, float32 [n], as float32 [n]. Raises TypeError for other arrays."""
    if row.dtype != np.float32 or row.ndim != 1 or rate < 1:
        raise TypeError(f"A sound must be float32 [n] with its rate, found {row.dtype} {list(row.shape)}, {rate} Hz.")
    for step in _NEXT.split(name) if index else ():
        match = _NOISE.fullmatch(step)
        row = _with_noise(row, chance, rate, match) if match else _STEPS[step](row, chance)
    return row


# ── Steps ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _between(chance: random.Random, low: float, high: float) -> float:
    return low + (high - low) * chance.random()


def _shifted(row: np.ndarray, chance: random.Random) -> np.ndarray:
    by = round(len(row) * _between(chance, -_SHIFT, _SHIFT))
    moved = np.zeros_like(row)
    moved[max(0, by) : len(row) + min(0, by)] = row[max(0, -by) : len(row) - max(0, by)]
    return moved


def _amplified(row: np.ndarray, chance: random.Random) -> np.ndarray:
    factor = 10 ** (_between(chance, _SOFTER_DB, _LOUDER_DB) / 20)
    return _within_scale(row * np.float32(factor)) if factor > 1 else row * np.float32(factor)


def _within_scale(row: np.ndarray) -> np.ndarray:
    peak = np.abs(row).max(initial=0)
    return row / peak if peak > 1 else row


_STEPS: dict[str, Callable[[np.ndarray, random.Random], np.ndarray]] = {"shift": _shifted, "gain": _amplified}


def _with_noise(row: np.ndarray, chance: random.Random, rate: int, match: re.Match[str]) -> np.ndarray:
    noise = _stretch(_same_noises(match["folder"], match["digest"]), len(row), rate, chance)
    heard = np.flatnonzero(row)
    sound = row[heard[0] : heard[-1] + 1] if len(heard) else row
    wanted = _power(sound) / 10 ** (float(match["snr_db"]) / 10)
    if not wanted or not _power(noise):  # to silence no noise stands in a ratio
        return row
    return _within_scale(row + noise * np.float32(np.sqrt(wanted / _power(noise))))


def _power(samples: np.ndarray) -> float:
    return float(np.square(samples, dtype=np.float64).mean())


# ── Noise ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Noises(NamedTuple):
    """The sound files of a folder with their lengths in seconds, by their contents, and a digest of all of them."""

    files: tuple[tuple[str, float], ...]
    digest: str


def _noises(folder: str) -> _Noises:
    found = []
    for path in (Path(place, name) for place, _, names in os.walk(folder) for name in names):
        try:
            with path.open("rb") as file:
                if path.is_file() and is_sound(file.read(_HEAD_BYTES)):
                    file.seek(0)
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                    found.append((digest, str(path), gauge(path)))
        except (OSError, DataError) as error:
            reason = error.message if isinstance(error, DataError) else error.strerror
            raise DataError(f"Noise {path}: {reason}.", "Replace or remove it.") from error
    heard = sorted((digest, path, loudness.seconds) for digest, path, loudness in found if loudness.peak)
    if not heard:
        raise DataError(f"There is no noise in {folder}: no sound file that is not silent.", "Name a folder of some.")
    total = hashlib.sha256("".join(digest for digest, *_ in heard).encode()).hexdigest()[:16]
    return _Noises(tuple((path, seconds) for _, path, seconds in heard), total)


@functools.lru_cache(maxsize=64)
def _same_noises(folder: str, digest: str | None) -> _Noises:
    noises = _noises(folder)
    if digest not in (None, noises.digest):
        raise DataError(f"The noise in {folder} changed since the views were named.", "Run it again.")
    return noises


def _stretch(noises: _Noises, length: int, rate: int, chance: random.Random) -> np.ndarray:
    """Return float32 [length] of one of the files, from anywhere in it; a shorter one is repeated."""
    path, seconds = noises.files[int(chance.random() * len(noises.files))]
    spare, place = seconds - length / rate, chance.random()
    if spare > 0:
        return np.resize(decode_sound(path, rate, place * spare, place * spare + length / rate), length)
    noise = decode_sound(path, rate)
    return np.resize(np.roll(noise, int(place * len(noise))), length)
