"""Samples of the user's own: a NumPy file `.npz` with one array for each input of the graph, whose rows are samples."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tledge.errors import DataError, did_you_mean

_HINT = "Write it with: numpy.savez(FILE, INPUT=array, …), one row for each sample."


@dataclass(frozen=True, slots=True)
class Given:
    """The samples for one input: `count` of them along `axis` of `values`; None is one for all runs.

    `alone` tells that the graph has no place for more than one at a time, so that a sample has no axis of its own.
    """

    values: np.ndarray
    axis: int | None
    alone: bool = False

    @property
    def count(self) -> int:
        """Return the number of samples."""
        return 1 if self.axis is None else self.values.shape[self.axis]

    def rows(self, batch: int, number: int) -> np.ndarray:
        """Return the samples of the `number`-th batch of `batch`, in a piece; after the last comes the first."""
        if self.axis is None:
            return self.values
        if self.alone:
            return self.values[number % self.count]
        return self.values.take(np.arange(number * batch, (number + 1) * batch) % self.count, self.axis)


def read(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of the `.npz` file at `path`. Raises DataError when it is none; nothing is ever unpickled."""
    try:
        if not zipfile.is_zipfile(path):
            path.open("rb").close()  # says why, if it is not there
            raise zipfile.BadZipFile("it is no zip archive")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, EOFError, ValueError, MemoryError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{path} cannot be read as an .npz file: {reason.rstrip('.')}.", _HINT) from error
    if not arrays:
        raise DataError(f"{path} holds no arrays.", _HINT)
    return arrays


def fit(
    inputs: Mapping[str, Any],
    shapes: Mapping[str, tuple[int | None, ...]],
    arrays: Mapping[str, np.ndarray],
    types: Mapping[str, type],
    source: str,
) -> dict[str, Given]:
    """Return `arrays`, from the file `source`, as samples for `inputs` of `types`; `shapes` have None for the batch.

    Raises DataError for names that no input has, other types, other shapes, and unequal numbers of samples.
    """
    found = {}
    for name, array in arrays.items():
        if name not in inputs:
            raise DataError(f"{source} holds '{name}', which is no input of the model.", did_you_mean(name, inputs))
        found[name] = _fit(inputs[name], shapes[name], _typed(inputs[name], array, types, source), source)
    counts = {name: each.count for name, each in found.items() if each.axis is not None}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{count} in '{name}'" for name, count in counts.items())
        raise DataError(f"{source} must hold as many samples for each input, found {said}.", _HINT)
    return found


def _typed(given: Any, array: np.ndarray, types: Mapping[str, type], source: str) -> np.ndarray:
    wanted = np.dtype(types.get(given.type, np.void))
    if wanted.kind == "U":
        if array.dtype.kind == "U":
            return array.astype(object)
    elif array.dtype == wanted:
        return np.ascontiguousarray(array).reshape(array.shape)
    raise DataError(
        f"{source}: input '{given.name}' takes {given.type.removeprefix('tensor(').removesuffix(')')} values, "
        f"found {array.dtype}.",
        f"Convert it with: array.astype(numpy.{wanted.name}).",
    )


def _fit(given: Any, shape: tuple[int | None, ...], array: np.ndarray, source: str) -> Given:
    """Return `array` as samples for an input of `shape`, or one more dimension where that has no batch."""
    batch = shape.index(None) if None in shape else None
    alone = batch is None and array.ndim == len(shape) + 1
    found = array.shape[1:] if alone else array.shape
    free = [None if at == batch or not isinstance(dim, int) else dim for at, dim in enumerate(given.shape)]
    fits = len(found) == len(free) and all(dim in (None, size) for dim, size in zip(free, found, strict=True))
    axis = 0 if alone else batch
    if not fits or (axis is not None and not array.shape[axis]):
        wanted = " × ".join(_word(given.shape[at], at == batch) for at in range(len(shape))) or "a single number"
        raise DataError(f"{source}: input '{given.name}' is {wanted}, found {_shape(array)}.", _HINT)
    return Given(array, axis, alone)


def _word(dim: int | str | None, batch: bool) -> str:
    return "samples" if batch else str(dim) if dim is not None else "any"


def _shape(array: np.ndarray) -> str:
    return " × ".join(map(str, array.shape)) or "a single number"
