"""What the cells of any table say: labels, split, group and whatever else stands beside the sample itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from pathlib import Path
from typing import Any, NamedTuple

from tledge.data.listing import SPLITS, Item, Listing
from tledge.data.sources.table_rows import Odd, Row, place
from tledge.errors import DataError
from tledge.schema import Problem, Split


class Refused(Exception):
    """A row that cannot be used, and why."""


class Said(NamedTuple):
    """What a row says of its sample; `several` tells that its cell of labels is one for any number of them."""

    labels: tuple[str, ...]
    several: bool
    split: Split | None
    columns: dict[str, str]


class Entry(NamedTuple):
    """A row that can be used: the line it begins on, the sample that it holds, and what it says of it."""

    line: int
    value: Any
    said: Said


def entries(
    rows: Iterable[Row | Odd], value_of: Callable[[Row], Any], sample: Set[str], label: str = "label"
) -> tuple[list[Entry], list[Odd], bool]:
    """Return the rows that can be used, the others and why, and whether samples may have several labels.

    `value_of` returns what is in the columns `sample` of a row, or raises Refused.
    """
    found: list[Entry] = []
    skipped: list[Odd] = []
    for row in rows:
        try:
            if isinstance(row, Odd):
                raise Refused(row.reason)
            found.append(Entry(row.line, value_of(row), said(row, sample, label)))
        except Refused as refused:
            skipped.append(Odd(row.line, str(refused)))
    multilabel = any(entry.said.several for entry in found)
    skipped += [Odd(entry.line, "has no label") for entry in found if not (entry.said.labels or multilabel)]
    return [entry for entry in found if entry.said.labels or multilabel], skipped, multilabel


def listed(
    path: Path, items: Iterable[Item], skipped: Iterable[Odd], multilabel: bool, notes: tuple[str, ...] = ()
) -> Listing:
    """Return `items` of the table and the problems that `skipped` are. Raises DataError when there are no items."""
    problems = tuple(Problem(place(path, odd.line), odd.reason) for odd in sorted(skipped))
    items = tuple(items)
    if not items:
        found = f" ({problems[0].path}: {problems[0].reason})" if problems else ""
        raise DataError(f"{path} holds no row that can be used{found}.", "Mend its rows.")
    return Listing(items, problems, (), multilabel, notes)


def said(row: Row, sample: Set[str], label: str = "label") -> Said:
    """Return what `row` says beside the columns `sample`. Raises Refused for cells that mean nothing."""
    labels, several = _labels(row.cells[label])
    for name in labels:
        require_text(name)
    others = row.cells.keys() - sample - {label, "split"}
    beside = {key: as_text(row.cells[key]) for key in row.cells if key in others} if others else {}
    return Said(labels, several, _split(row.cells.get("split")), beside)


def require_text(text: str) -> None:
    """Raise Refused for what no name can hold: zeros, and the halves of characters that JSON can write."""
    try:
        good = b"\0" not in text.encode("utf-8")
    except UnicodeEncodeError:
        good = False
    if not good:
        raise Refused(f"{text!a} holds characters that no name can hold")


def as_text(cell: Any) -> str:
    """Return a cell as it would stand in CSV."""
    if isinstance(cell, bool):
        return str(cell).lower()
    return "" if cell is None else str(cell)


def _labels(cell: Any) -> tuple[tuple[str, ...], bool]:
    """Return the labels, each once, and whether the cell is one for several."""
    listed = isinstance(cell, list)
    several = listed or (isinstance(cell, str) and "|" in cell)
    parts = [part for each in (cell if listed else [cell]) for part in _label(each).split("|")]
    return tuple(sorted({part.strip() for part in parts} - {""})), several


def _label(cell: Any) -> str:
    if isinstance(cell, float) and cell.is_integer():  # what becomes of whole numbers where some cells are empty
        return str(int(cell))
    if cell is None or isinstance(cell, str | int):
        return as_text(cell)
    raise Refused(f"its label must be a string, a whole number or a list of them; found {as_text(cell)[:40]}")


def _split(cell: Any) -> Split | None:
    word = as_text(cell).strip().lower()
    if word and word not in SPLITS:
        raise Refused(f"its split must be train, val or test; found {word[:40]!r}")
    return SPLITS.get(word)
