"""A table of numbers: CSV, TSV, JSONL or Parquet with a label, perhaps split and group, and columns of numbers.

- The label is in the column `label`, or else `class`, or else `target`; `split` and `group` are as in tables of
  pictures. All other columns, in their order, are the numbers of a vector, float32.
- A column without a name, or called `Unnamed: 0` or `__index_level_0__`, is the numbering that pandas writes. It is
  left out, and told of.
- A row with an empty cell, a word or a number that is not finite is left out and listed with its line. A column that
  holds no number at all is an error.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tledge.data.listing import Item, Listing
from tledge.data.sources import rows, table_rows
from tledge.data.sources.table_cells import Entry, Refused, as_text, entries, listed
from tledge.data.sources.table_rows import LABELS, Odd, Row, header_place, place
from tledge.errors import DataError

_SHOWN = 40
_LARGEST = float(np.finfo(np.float32).max)
_INDEX = re.compile(r"|unnamed: \d+|__index_level_\d+__", re.IGNORECASE)


def accepts(path: Path) -> bool:
    """Tell whether `path` is a table that names a label, and columns beside it that are neither paths nor texts."""
    if not table_rows.accepts(path):
        return False
    names = table_rows.columns(path)
    return bool(set(LABELS).intersection(names)) and {"path", "text"}.isdisjoint(names) and bool(Columns(path).numbers)


def scan(path: Path) -> Listing:
    """List the rows of the table in their order, each as the `value` of its sample.

    Raises DataError when the table cannot be read, a column holds no number, or no row can be used.
    """
    columns = Columns(path)
    label = next(name for name in LABELS if name in columns.names)
    found, skipped, multilabel = entries(columns.rows(label), columns.vector_of, set(columns.numbers), label)
    columns.require_numbers()
    vectors = np.stack([entry.value for entry in found]) if found else np.empty((0, 0), np.float32)
    vectors.flags.writeable = False
    items = map(_item, [path] * len(found), found, vectors, rows.digests(vectors))
    listing = listed(path, items, skipped, multilabel, columns.notes())
    return replace(listing, columns=tuple(columns.numbers))


def _item(path: Path, entry: Entry, value: np.ndarray, digest: str) -> Item:
    labels, _, split, columns = entry.said
    group = columns.get("group") or None
    return Item(place(path, entry.line), labels, split, digest, value, group, "", columns, "vector")


class Columns:
    """The columns of the table at `path`: the `names` of all, and of those that hold `numbers`.

    These are those `wanted`, in that order, or else all that say nothing else. It remembers which columns held no
    number where one was wanted. Raises DataError when the file cannot be read, or lacks one that is wanted.
    """

    def __init__(self, path: Path, wanted: Sequence[str] = ()) -> None:
        self.path = path
        self.names = table_rows.columns(path)
        label = next((name for name in LABELS if name in self.names), "")
        beside = (label, "split", "group")
        self.numbers = [name for name in self.names if name not in beside and not _INDEX.fullmatch(name)]
        if wanted:
            self._require(wanted)
            self.numbers = list(wanted)
        self._asked = 0
        self._odd = Counter[str]()
        self._first: dict[str, str] = {}

    def _require(self, wanted: Sequence[str]) -> None:
        missing = next((name for name in wanted if name not in self.names), None)
        if missing is not None:
            raise DataError(
                f"{header_place(self.path)} must name the columns that the model was trained on, {missing!r} among "
                f"them; found {','.join(self.names)[:80]!r}.",
                f"They are: {','.join(wanted)}.",
            )

    def notes(self) -> tuple[str, ...]:
        """Return what to tell of columns that were left out."""
        left_out = [name for name in self.names if _INDEX.fullmatch(name)]
        return tuple(
            f"{self.path}: column {name!r} numbers the rows, as pandas writes it, and was left out."
            for name in left_out
        )

    def rows(self, *beside: str) -> Iterator[Row | Odd]:
        """Yield the rows, each of which must have the columns of numbers and those `beside`."""
        if all(map(_is_number, self.numbers)):
            raise DataError(
                f"{header_place(self.path)} must name the columns; found {','.join(self.names)[:80]!r}.",
                "Add a line of names.",
            )
        example = ", ".join(f'"{name}": …' for name in (*self.numbers[:3], *beside))
        return table_rows.read(self.path, (*self.numbers, *beside), f"{{{example}}}")

    def vector_of(self, row: Row) -> np.ndarray:
        """Return the numbers of a row, float32 [columns]. Raises Refused for a cell that is no finite number."""
        cells = [row.cells[name] for name in self.numbers]
        self._asked += 1
        try:
            return _vector(cells)
        except ValueError:
            odd = {name: reason for name, cell in zip(self.numbers, cells, strict=True) if (reason := _odd(cell))}
            self._odd.update(odd.keys())
            reasons = [f"column {name!r} {reason}" for name, reason in odd.items()]
            for name, reason in zip(odd, reasons, strict=True):
                self._first.setdefault(name, f"{place(self.path, row.line)}: {reason}")
            raise Refused(reasons[0]) from None

    def require_numbers(self) -> None:
        """Raise DataError when a column never held a number: it is there for something else."""
        name, times = next(iter(self._odd.most_common(1)), ("", 0))
        if times and times == self._asked:
            raise DataError(
                f"{self._first[name]}, and so in every row.",
                "Leave the column out; or call it path or text where it is the sample, and what it is label; or group, "
                "where it says what belongs together.",
            )


def _vector(cells: Sequence[Any]) -> np.ndarray:
    """Return the cells as float32 [n]. Raises ValueError unless each is a finite number."""
    try:
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is refused as such
            vector = np.array(cells, np.float64).astype(np.float32)
    except (TypeError, OverflowError) as error:
        raise ValueError(str(error)) from error
    if vector.ndim != 1 or not np.isfinite(vector).all():
        raise ValueError("not finite, or not one number a cell")
    return vector


def _odd(cell: Any) -> str:
    """Return what keeps `cell` from being a number; "" for one."""
    text = as_text(cell).strip()
    if not text:
        return "has no value"
    try:
        number = float(cell)
    except (ValueError, TypeError):
        return f"must be a number; found {text[:_SHOWN]!r}"
    except OverflowError:  # a whole number of hundreds of digits
        number = math.inf
    return "" if abs(number) <= _LARGEST else f"must be finite in float32; found {text[:_SHOWN]}"


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True
