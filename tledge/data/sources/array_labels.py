"""Label arrays → class names: whole numbers, strings, one-hot rows, or 0/1 rows of a multi-label set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from tledge.errors import DataError

_HINT = "Labels are whole numbers [n], strings [n], or zeros and ones [n, classes]."


class Labels(NamedTuple):
    """The class names of each row by array, the classes in the order of their numbers, and whether rows may have many.

    `classes` is empty when the labels are strings without an order of their own.
    """

    names: dict[str, list[tuple[str, ...]]]
    classes: tuple[str, ...]
    multilabel: bool


def read(arrays: Mapping[str, np.ndarray], names: np.ndarray | None, place: str) -> Labels:
    """Return the Labels of all `arrays` of one file; `names` are the class names by number, where the file has them.

    A matrix of zeros and ones is one-hot when every row of every array holds one 1, and multi-label otherwise. Raises
    DataError, naming array and row, for anything that is no label.
    """
    classes = None if names is None else _class_names(names, f"{place}[classes]")
    flat = {key: _squeeze(array) for key, array in arrays.items()}
    if any(array.ndim == 2 for array in flat.values()):
        return _from_matrices(flat, classes, place)
    if all(array.dtype.kind in "US" for array in flat.values()):
        found = {key: [(name,) for name in _strings(array, f"{place}[{key}]")] for key, array in flat.items()}
        return Labels(found, tuple(classes or ()), False)
    numbers = {key: _integers(array, f"{place}[{key}]") for key, array in flat.items()}
    present = sorted(set().union(*(array.tolist() for array in numbers.values())))
    if classes is None:
        table = {number: str(number) for number in present}
        return Labels(_looked_up(numbers, table), tuple(table.values()), False)
    for key, array in numbers.items():
        _require_rows(
            (array >= 0) & (array < len(classes)),
            f"{place}[{key}]",
            f"lie in 0 to {len(classes) - 1}, as there are names",
            array,
        )
    return Labels(_looked_up(numbers, dict(enumerate(classes))), tuple(classes), False)


def _squeeze(array: np.ndarray) -> np.ndarray:
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def _looked_up(numbers: Mapping[str, np.ndarray], table: Mapping[int, str]) -> dict[str, list[tuple[str, ...]]]:
    tuples = {number: (name,) for number, name in table.items()}
    return {key: [tuples[number] for number in array.tolist()] for key, array in numbers.items()}


def _require_rows(good: np.ndarray, place: str, must: str, array: np.ndarray) -> None:
    bad = np.flatnonzero(~good)
    if bad.size:
        raise DataError(f"{place} row {bad[0]} must {must}; found {array[bad[0]]}.", _HINT)


def _class_names(array: np.ndarray, place: str) -> list[str]:
    names = _strings(array, place)
    _require_rows(np.array([names.index(name) == row for row, name in enumerate(names)], bool), place, "be new", array)
    return names


def _strings(array: np.ndarray, place: str) -> list[str]:
    if array.ndim != 1 or array.dtype.kind not in "US":
        raise DataError(f"{place} must be strings [n]; found {array.dtype} {list(array.shape)}.", _HINT)
    try:
        names = np.char.decode(array, "utf-8").tolist() if array.dtype.kind == "S" else array.tolist()
    except UnicodeDecodeError as error:
        raise DataError(f"{place} must be UTF-8 ({error}).", _HINT) from error
    _require_rows(np.array([bool(name) for name in names], bool), place, "be a name", array)
    return names


def _integers(array: np.ndarray, place: str) -> np.ndarray:
    if array.ndim != 1 or array.dtype.kind not in "buif":
        raise DataError(f"{place} are no labels: {array.dtype} {list(array.shape)}.", _HINT)
    if array.dtype.kind == "f":
        _require_rows(np.isfinite(array) & (array == np.rint(array)) & (abs(array) < 2**53), place, "be whole", array)
    return array.astype(np.int64)


def _from_matrices(arrays: Mapping[str, np.ndarray], classes: list[str] | None, place: str) -> Labels:
    widths = {array.shape[1] if array.ndim == 2 else 0 for array in arrays.values()}
    if len(widths) > 1:
        shapes = ", ".join(f"{key} {list(array.shape)}" for key, array in arrays.items())
        raise DataError(f"{place} must label all its arrays in one way; found {shapes}.", _HINT)
    width = widths.pop()
    for key, array in arrays.items():
        if array.dtype.kind not in "buif" or array.ndim != 2:
            raise DataError(f"{place}[{key}] are no labels: {array.dtype} {list(array.shape)}.", _HINT)
        _require_rows(((array == 0) | (array == 1)).all(axis=1), f"{place}[{key}]", "hold zeros and ones", array)
    names = classes or [str(number) for number in range(width)]
    if len(names) != width:
        raise DataError(f"{place} names {len(names)} classes, but its labels have {width} columns.", _HINT)
    found = {key: _names_of_rows(array, names) for key, array in arrays.items()}
    multilabel = any(len(row) != 1 for rows in found.values() for row in rows)
    return Labels(found, tuple(names), multilabel)


def _names_of_rows(array: np.ndarray, names: list[str]) -> list[tuple[str, ...]]:
    rows: list[list[str]] = [[] for _ in range(len(array))]
    for row, column in zip(*(where.tolist() for where in np.nonzero(array)), strict=True):
        rows[row].append(names[column])
    return [tuple(row) for row in rows]
