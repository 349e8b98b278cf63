"""What every modality has: a reader, which makes samples into rows, and rows into what the graph takes."""

from __future__ import annotations

import base64
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tledge.errors import DataError
from tledge.schema import GoldenSample, InputSpec

Source = str | os.PathLike[str] | bytes | np.ndarray
Feed = dict[str, np.ndarray]
Part = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Shown:
    """A sample as a person sees or hears it: a `text`, `pixels` uint8 [H, W(, 3)], or `samples` float32 [n], -1..1.

    Samples are at `rate` Hz, 0 where that is not known.
    """

    text: str = ""
    pixels: np.ndarray | None = None
    samples: np.ndarray | None = None
    rate: int = 0


class Reader(ABC):
    """How samples of one `kind` become what a graph takes; `noun` is what a user calls one of them.

    `example` is how `tledge predict` is given one, `unit` what the size of a backbone's input counts.
    `spec` says what the graph takes; `metadata` is that of the graph's file. `revision` is part of the key of cached
    features: raise it when a row that a sample becomes changes. Rows are `even` when all have one shape. `steps` are
    what makes the bytes of a file rows, none where samples are no files; `extent` is in what such a sample is large.
    """

    kind: ClassVar[str]
    noun: ClassVar[str]
    example: ClassVar[str]
    unit: ClassVar[str]
    revision: ClassVar[int] = 1
    even: ClassVar[bool] = True
    steps: ClassVar[tuple[str, ...]] = ()
    extent: ClassVar[str] = ""

    def __init__(self, spec: InputSpec, metadata: Mapping[str, str]) -> None:
        self.spec: Any = spec

    # ── A sample → rows ──────────────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def load(self, source: Source, part: Part | None = None) -> np.ndarray:
        """Return `source` as one row: a path, the bytes of a file, an array, or of texts the text itself.

        `part` is from where to where in seconds, of a sound that is longer. Raises DataError, a clause without the
        source's name, for what cannot be read or is none of this modality.
        """

    def in_steps(self, source: bytes, done: Callable[[], None]) -> list[np.ndarray]:
        """Return `windows` of the bytes of a file, and call `done` behind each of `steps`. Raises as `load`."""
        rows = self.windows(source)
        done()
        return rows

    def extent_of(self, source: bytes) -> float:
        """Return how large the sample in the bytes of a file is, in `extent`; 0 without one. Raises as `load`."""
        return 0.0

    @abstractmethod
    def mismatch(self, value: object) -> str:
        """Return what must hold where `value`, no path and no bytes, is of another type or shape; "" where it fits."""

    def windows(self, source: Source, part: Part | None = None) -> list[np.ndarray]:
        """Return `source` as the rows whose probabilities are averaged; but for long sounds there is one."""
        return [self.load(source, part)]

    def named(self, source: Source) -> list[np.ndarray]:
        """Return `windows` of `source`; an error about a file says which it is.

        Raises TypeError for an array of another type or shape than this modality has.
        """
        if not isinstance(source, str | bytes | os.PathLike) and (wanted := self.mismatch(source)):
            raise TypeError(f"{wanted}; found {describe(source)}.")
        try:
            return self.windows(source)
        except DataError as error:
            if isinstance(source, np.ndarray):
                raise
            raise DataError(f"{self.name(source)}: {error.message}.", "Replace or remove it.") from error

    def name(self, source: str | os.PathLike[str] | bytes) -> str:
        """Return what to call `source` in a message."""
        called = f"of {len(source):,} bytes" if isinstance(source, bytes) else os.fspath(source)
        return f"{self.noun.capitalize()} {called}"

    def listed(self, samples: Any) -> list[Any]:
        """Return `samples` one by one: several, or the only one."""
        one = isinstance(samples, str | bytes | os.PathLike) or self.is_one(samples)
        return [samples] if one else list(samples)

    def is_one(self, samples: object) -> bool:
        """Tell whether `samples` is an array of one sample, not of several."""
        return isinstance(samples, np.ndarray) and samples.ndim <= 1

    # ── Rows → the graph ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    @abstractmethod
    def blank(self) -> np.ndarray | None:
        """A row of zeros; None where rows differ in shape."""

    def bucket(self, row: np.ndarray) -> Hashable:
        """Return what the rows of a piece of extraction have in common, so that each depends on itself alone."""
        return 0

    def at_a_time(self, bucket: Hashable, usual: int) -> int:
        """Return how many rows of `bucket` a worker runs at a time where it runs `usual` ones of the usual size."""
        return usual

    def together(self, row: np.ndarray) -> Hashable:
        """Return what rows have in common that are worth running in one batch."""
        return self.bucket(row)

    def feed(self, rows: Sequence[np.ndarray] | np.ndarray, count: int | None = None) -> Feed:
        """Return what the graph takes for `rows` that may share a batch, filled up with zeros to `count` of them."""
        if not isinstance(rows, np.ndarray):
            rows = rows[0][None] if len(rows) == 1 else np.stack(rows)
        return {self.kind: filled(rows, count)}

    @abstractmethod
    def inputs(self) -> dict[str, tuple[str, list[int | str]]]:
        """Return the graph's inputs by name: onnxruntime's word for the type, and the shape behind the batch."""

    def examples(self, golden: Sequence[GoldenSample]) -> tuple[Feed, tuple[str, ...]]:
        """Return what to feed a graph that is measured, one row for each sample, and in words what that takes as given.

        Nothing where any numbers of the right type will do. Raises as `from_golden`.
        """
        return {}, ()

    # ── What stands in files ─────────────────────────────────────────────────────────────────────────────────────────

    @property
    def rate(self) -> int:
        """How many numbers of a row a second has; 0 for what has no duration."""
        return 0

    @property
    def seconds(self) -> float | None:
        """How long a row lasts; None for what has no duration."""
        return None

    @classmethod
    @abstractmethod
    def size(cls, spec: Any) -> str:
        """Return the size of the input in a few letters."""

    @classmethod
    @abstractmethod
    def check(cls, spec: Any) -> None:
        """Raise ValueError when `spec`, whose fields are of their types, holds a word or number that cannot be."""

    @classmethod
    @abstractmethod
    def shown(cls, source: Source, part: Part | None = None) -> Shown:
        """Return `source`, as `load` takes it, for a person to look at. Raises DataError or OSError without it."""

    @abstractmethod
    def to_golden(self, row: np.ndarray) -> GoldenSample:
        """Return `row` as a golden sample, without its probabilities yet; what it becomes again may be rounded."""

    @abstractmethod
    def from_golden(self, sample: GoldenSample) -> np.ndarray:
        """Return the row of a golden sample. Raises ValueError, TypeError or OSError when it is none of this kind."""


def filled(rows: np.ndarray, count: int | None) -> np.ndarray:
    """Return `rows` [n, …] with zeros behind them, so that there are `count`."""
    if count is None or len(rows) == count:
        return rows
    full = np.zeros((count, *rows.shape[1:]), rows.dtype)
    full[: len(rows)] = rows
    return full


def to_base64(content: bytes) -> str:
    """Return `content` in letters."""
    return base64.b64encode(content).decode("ascii")


def describe(value: object) -> str:
    """Return what `value` is, in a few words for a message."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    return type(value).__name__
