"""Vectors: any array of as many finite numbers as the model takes."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from tledge.errors import DataError
from tledge.modalities.reader import Part, Reader, Shown, Source, describe, to_base64
from tledge.schema import GoldenSample, VectorSpec

_MOST_SHOWN = 24


class VectorReader(Reader):
    """Arrays of `spec.length` numbers of any shape → float32 [length]."""

    kind, noun, revision = "vector", "vector", 2
    example, unit = "new.npz", "numbers"

    def load(self, source: Source, part: Part | None = None) -> np.ndarray:
        """Return the numbers of `source`, float32 [length]; they must be finite."""
        if not isinstance(source, np.ndarray):
            raise DataError("the model takes vectors, this is a file")
        if self.mismatch(source):
            raise DataError(f"{self.spec.length} numbers are wanted, found {describe(source)}")
        row = source.reshape(-1).astype(np.float32)
        if not np.isfinite(row).all():
            raise DataError("every number must be finite, found NaN or infinity")
        return row

    def mismatch(self, value: object) -> str:
        """Return what must hold unless `value` is an array of so many numbers."""
        if isinstance(value, np.ndarray) and value.size == self.spec.length and value.dtype.kind in "fiub":
            return ""
        return f"A vector must be an array of {self.spec.length} numbers"

    @property
    def blank(self) -> np.ndarray:
        """Zeros, float32 [length]."""
        return np.zeros(self.spec.length, np.float32)

    def inputs(self) -> dict[str, tuple[str, list[int | str]]]:
        """Return `vector`, float32 [length]."""
        return {self.kind: ("tensor(float)", [self.spec.length])}

    @classmethod
    def size(cls, spec: VectorSpec) -> str:
        """Return the length."""
        return str(spec.length)

    @classmethod
    def check(cls, spec: VectorSpec) -> None:
        """Raise ValueError for another word than vector."""
        if spec.kind != cls.kind:
            raise ValueError("an unknown word")

    @classmethod
    def shown(cls, source: Source, part: Part | None = None) -> Shown:
        """Return the first numbers in three digits."""
        if not isinstance(source, np.ndarray):
            raise DataError("a vector is an array, this is a file")
        said = ", ".join(f"{number:.3g}" for number in source.reshape(-1)[:_MOST_SHOWN])
        return Shown(text=said + ", …" * (source.size > _MOST_SHOWN))

    def to_golden(self, row: np.ndarray) -> GoldenSample:
        """Return the numbers as little-endian float32 in base64."""
        return GoldenSample("", (), vector=to_base64(row.astype("<f4").tobytes()))

    def from_golden(self, sample: GoldenSample) -> np.ndarray:
        """Return the numbers, float32 [length]."""
        row: Any = np.frombuffer(base64.b64decode(sample.vector), "<f4")
        if row.shape != (self.spec.length,):
            raise ValueError("of another length than the model's")
        return row
