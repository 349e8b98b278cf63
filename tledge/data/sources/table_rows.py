"""Lines of CSV and JSONL files → rows with their line numbers. Read as a stream; no line is longer than it may be."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tledge.errors import DataError

NEEDED = ("path", "label")
_MAX_LINE_BYTES = 1 << 20
_BOM, _BOMS_16 = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")
_DELIMITERS = {".csv": ",;\t", ".tsv": "\t"}


class Row(NamedTuple):
    """What one row says by column, and the line it begins on. CSV gives strings, JSONL any value."""

    line: int
    cells: dict[str, Any]


class Odd(NamedTuple):
    """A line that is no row, and why."""

    line: int
    reason: str


def place(path: Path, line: int) -> str:
    """Return what a message calls a line: `labels.csv line 17`."""
    return f"{path} line {line}"


def read(path: Path) -> Iterator[Row | Odd]:
    """Yield the rows of a table, and an Odd for each line that is none.

    Raises DataError when the file cannot be read on: no header that names `path` and `label`, not UTF-8, an open quote.
    """
    try:
        with path.open("rb") as file:
            yield from _read_csv(file, path) if path.suffix.lower() in _DELIMITERS else _read_jsonl(file, path)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).", "Check the file.") from error


def _lines(file: BinaryIO, path: Path) -> Iterator[str]:
    number = 0
    while line := file.readline(_MAX_LINE_BYTES + 1):
        number += 1
        if number == 1:
            if line.startswith(_BOMS_16):
                raise DataError(f"{path} must be UTF-8; found UTF-16.", "Save it as CSV UTF-8.")
            line = line.removeprefix(_BOM)
        if len(line) > _MAX_LINE_BYTES:
            raise DataError(f"{place(path, number)} is longer than {_MAX_LINE_BYTES} bytes.", "Is it a table?")
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            odd = line[error.start]
            raise DataError(
                f"{place(path, number)} must be UTF-8; found byte 0x{odd:02x}.", "Save it as UTF-8."
            ) from error


# ── CSV ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _read_csv(file: BinaryIO, path: Path) -> Iterator[Row | Odd]:
    lines = _lines(file, path)
    names, delimiter = _header(next(lines, ""), path)
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    line = 2
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"{place(path, line)} is not CSV ({error}).", "Put cells with quotes in quotes.") from error
        if len(cells) == len(names):
            yield Row(line, {name: cell.rstrip() for name, cell in zip(names, cells, strict=True)})
        elif cells:
            yield Odd(line, _odd_count(len(cells), names, delimiter))
        line = 2 + reader.line_num


def _odd_count(found: int, names: list[str], delimiter: str) -> str:
    quotes = f" (a cell that holds {delimiter!r} must stand in quotes)" if found > len(names) else ""
    return f"has {found} cells, but the header names {len(names)}{quotes}"


def _header(line: str, path: Path) -> tuple[list[str], str]:
    """Return the names of the columns in small letters, and what separates them."""
    for delimiter in _DELIMITERS[path.suffix.lower()]:
        names = _split_header(line, delimiter)
        if set(NEEDED) <= set(names):
            break
    else:
        raise DataError(
            f"{place(path, 1)} must name the columns path,label and, if there are any, split and group; found "
            f"{line.strip()[:80]!r}.",
            "Add the header: path,label",
        )
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise DataError(f"{place(path, 1)} names {min(twice)!r} twice.", "Rename one column.")
    return names, delimiter


def _split_header(line: str, delimiter: str) -> list[str]:
    try:
        cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:
        return []
    return [cell.strip().lower() for cell in cells]


# ── JSONL ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _read_jsonl(file: BinaryIO, path: Path) -> Iterator[Row | Odd]:
    for line, text in enumerate(_lines(file, path), start=1):
        if text.strip():
            yield _parse(text, line)


def _parse(text: str, line: int) -> Row | Odd:
    try:
        cells = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Odd(line, f"is not JSON ({error})")
    if not isinstance(cells, dict) or not set(NEEDED) <= cells.keys():
        return Odd(line, 'must be like {"path": "cat/1.jpg", "label": "cat"}')
    return Row(line, cells)
