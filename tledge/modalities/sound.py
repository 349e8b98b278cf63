"""Sounds: decode → one channel at the model's rate → a window of samples; training and serving both go through here."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import get_args

import numpy as np

from tledge.decode_sound import decode_sound, duration, within_full_scale
from tledge.errors import DataError
from tledge.modalities.reader import Feed, Part, Reader, Shown, Source, describe, to_base64
from tledge.schema import GoldenSample, SoundFit, SoundSpec

_FULL_SCALE_16 = 32767
_TYPES = ("float32", "float64", "int16")
_SHOWN_RATE, _SHOWN_S = 16_000, 30.0  # what a person needs to know a sound again


def window_starts(length: int, spec: SoundSpec) -> list[int]:
    """Return where the windows of a clip of `length` samples begin; the last of several ends where the clip ends.

    Without a hop, and of a clip that is no longer than a window, there is one.
    """
    excess = max(0, length - spec.samples)
    return [*range(0, excess, spec.hop), excess] if spec.hop and excess else [_start(length, spec)]


def _start(length: int, spec: SoundSpec) -> int:
    return max(0, length - spec.samples) // 2 if spec.fit == "centre" else 0


class SoundReader(Reader):
    """Sound files, or samples at the model's rate, float32, float64 or int16 [n] or [n, channels] → float32 [samples].

    Numbers of arrays are in -1..1, or 16-bit integers; what lies beyond is cut off.
    """

    kind, noun, revision = "audio", "sound", 1
    example, unit = "new.wav", "samples"
    steps, extent = ("decode",), "seconds"

    def load(self, source: Source, part: Part | None = None) -> np.ndarray:
        """Return one window, float32 [samples], as `spec.fit` says; of a file, `part` is all that is looked at."""
        clip = self._clip(source, part)
        return self._window(clip, _start(len(clip), self.spec))

    def windows(self, source: Source, part: Part | None = None) -> list[np.ndarray]:
        """Return one window, or with `spec.hop` as many as it takes to cover all of a longer clip."""
        clip = self._clip(source, part)
        return [self._window(clip, start) for start in window_starts(len(clip), self.spec)]

    def extent_of(self, source: bytes) -> float:
        """Return how long it is."""
        return duration(source)

    def mismatch(self, value: object) -> str:
        """Return what must hold unless `value` is float32, float64 or int16 [n] or [n, channels]."""
        if isinstance(value, np.ndarray) and value.dtype.name in _TYPES and value.ndim in (1, 2) and value.size:
            return ""
        wanted = "samples float32, float64 or int16, [n] or [n, channels]"
        return f"A sound must be a path, bytes, or {wanted}, at {self.spec.rate:,} Hz"

    def _clip(self, source: Source, part: Part | None) -> np.ndarray:
        if isinstance(source, np.ndarray):
            if self.mismatch(source):
                raise DataError(f"the model takes sounds, this is {describe(source)}")
            return _part_of(_from_array(source), self.spec.rate, part)
        return decode_sound(source, self.spec.rate, *(part or ()))

    def _window(self, clip: np.ndarray, start: int) -> np.ndarray:
        row = np.zeros(self.spec.samples, np.float32)
        piece = clip[start : start + len(row)]
        at = (len(row) - len(piece)) // 2 if self.spec.fit == "centre" else 0
        row[at : at + len(piece)] = piece
        return row

    @property
    def blank(self) -> np.ndarray:
        """Silence, float32 [samples]."""
        return np.zeros(self.spec.samples, np.float32)

    def inputs(self) -> dict[str, tuple[str, list[int | str]]]:
        """Return `audio`, float32 [samples]."""
        return {self.kind: ("tensor(float)", [self.spec.samples])}

    @property
    def rate(self) -> int:
        """Samples a second."""
        return self.spec.rate

    @property
    def seconds(self) -> float:
        """How long a window lasts."""
        return self.spec.samples / self.spec.rate

    def examples(self, golden: Sequence[GoldenSample]) -> tuple[Feed, tuple[str, ...]]:
        """Return the golden samples: what is fed sets what some spectrograms cost."""
        rows = [self.from_golden(sample) for sample in golden]
        return (self.feed(rows), (f"{self.kind}: the golden samples",)) if rows else ({}, ())

    @classmethod
    def size(cls, spec: SoundSpec) -> str:
        """Return seconds and rate."""
        return f"{spec.samples / spec.rate:.3g}s@{spec.rate}"

    @classmethod
    def check(cls, spec: SoundSpec) -> None:
        """Raise ValueError for a fit that there is not, and for numbers that cannot be."""
        if spec.kind != cls.kind or spec.fit not in get_args(SoundFit):
            raise ValueError("an unknown word")
        if spec.rate < 1 or spec.samples < 1 or spec.hop < 0:
            raise ValueError("a number below what it can be")

    @classmethod
    def shown(cls, source: Source, part: Part | None = None) -> Shown:
        """Return the sound, or its `part`, at a rate for speech; of a long one the first half a minute."""
        if isinstance(source, np.ndarray):
            return Shown(samples=_from_array(source))
        start, end = part or (0.0, duration(source))
        return Shown(samples=decode_sound(source, _SHOWN_RATE, start, min(end, start + _SHOWN_S)), rate=_SHOWN_RATE)

    def to_golden(self, row: np.ndarray) -> GoldenSample:
        """Return the samples as little-endian int16 in base64: rounded, but every later time the same."""
        rounded = np.rint(np.clip(row, -1, 1) * np.float32(_FULL_SCALE_16)).astype("<i2")
        return GoldenSample("", (), sound=to_base64(rounded.tobytes()))

    def from_golden(self, sample: GoldenSample) -> np.ndarray:
        """Return the samples, float32 [samples]."""
        row = np.frombuffer(base64.b64decode(sample.sound, validate=True), "<i2").astype(np.float32)
        if row.shape != (self.spec.samples,):
            raise ValueError("of another length than the model's")
        return row / np.float32(_FULL_SCALE_16)


def _from_array(samples: np.ndarray) -> np.ndarray:
    scale = np.float32(1 / 32768 if samples.dtype == np.int16 else 1)
    mono = samples if samples.ndim == 1 else samples.mean(axis=1, dtype=np.float64)
    return within_full_scale(mono.astype(np.float32) * scale)


def _part_of(clip: np.ndarray, rate: int, part: Part | None) -> np.ndarray:
    if part is None:
        return clip
    piece = clip[max(0, round(part[0] * rate)) : max(0, round(part[1] * rate))]
    if not len(piece):
        raise DataError(f"its part of {part[0]:g} to {part[1]:g} s is not in it: it has {len(clip) / rate:g} s")
    return piece
