"""Lines of CSV and JSONL files, and rows of Parquet → rows with their numbers. Read as a stream, in bounded memory."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tledge.data.sources import parquet_rows
from tledge.errors import DataError

LABELS = ("label", "class", "target")  # columns that may say of what class a row is
_MAX_LINE_BYTES = 1 << 26  # a long text, each letter of which JSON may write as six
_BOM, _BOMS_16 = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")
_DELIMITERS = {".csv": ",;\t", ".tsv": "\t"}
_JSONL = (".jsonl", ".ndjson")
SUFFIXES = (*_DELIMITERS, *_JSONL, *parquet_rows.SUFFIXES)


class Row(NamedTuple):
    """What one row says by column, and the line it begins on. CSV gives strings, JSONL any value."""

    line: int
    cells: dict[str, Any]


class Odd(NamedTuple):
    """A line that is no row, and why."""

    line: int
    reason: str


def accepts(path: Path) -> bool:
    """Tell whether `path` is a file that is called a table."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def place(path: Path, line: int) -> str:
    """Return what a message calls a row: `labels.csv line 17`, `labels.parquet row 17`."""
    return f"{path} {'row' if parquet_rows.accepts(path) else 'line'} {line}"


def header_place(path: Path) -> str:
    """Return what a message calls the place where columns are named."""
    return place(path, 1) if path.suffix.lower() in _DELIMITERS else str(path)


def is_jsonl(path: Path) -> bool:
    """Tell whether each row of the table names its columns itself."""
    return path.suffix.lower() in _JSONL


def columns(path: Path) -> tuple[str, ...]:
    """Return the names of the columns as `read` gives them, of JSONL those of the first row; () when there are none.

    Raises DataError when the file cannot be read.
    """
    if parquet_rows.accepts(path):
        return parquet_rows.columns(path)
    with _opened(path) as file:
        lines = _lines(file, path)
        if not is_jsonl(path):
            return tuple(_header(next(lines, ""), path)[0])
        first = next((row for row in _read_jsonl(lines, (), "") if isinstance(row, Row)), None)
        return tuple(first.cells) if first else ()


def read(path: Path, needed: Sequence[str], example: str) -> Iterator[Row | Odd]:
    """Yield the rows of a table, and an Odd for each line that is none; a row of JSONL must be like `example`.

    Raises DataError when the file cannot be read on: no header that names the columns `needed`, not UTF-8, an open
    quote.
    """
    if parquet_rows.accepts(path):
        yield from (Row(number, cells) for number, cells in parquet_rows.read(path))
        return
    with _opened(path) as file, _long_cells():
        lines = _lines(file, path)
        yield from _read_jsonl(lines, needed, example) if is_jsonl(path) else _read_csv(lines, path)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).", "Check the file.") from error


@contextmanager
def _long_cells() -> Iterator[None]:
    """Let cells be as long as lines: csv has one limit for all of the process."""
    before = csv.field_size_limit(_MAX_LINE_BYTES)
    try:
        yield
    finally:
        csv.field_size_limit(before)


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


def _read_csv(lines: Iterator[str], path: Path) -> Iterator[Row | Odd]:
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
    """Return the names of the columns in small letters, and what separates them: where one is a label, or most."""
    ways = [(_split_header(line, delimiter), delimiter) for delimiter in _DELIMITERS[path.suffix.lower()]]
    names, delimiter = max(ways, key=lambda way: (not set(LABELS).isdisjoint(way[0]), len(way[0])))
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


def _read_jsonl(lines: Iterator[str], needed: Sequence[str], example: str) -> Iterator[Row | Odd]:
    for line, text in enumerate(lines, start=1):
        if text.strip():
            yield _parse(text, line, needed, example)


def _parse(text: str, line: int, needed: Sequence[str], example: str) -> Row | Odd:
    try:
        cells = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Odd(line, f"is not JSON ({error})")
    if not isinstance(cells, dict) or not set(needed) <= cells.keys():
        return Odd(line, f"must be like {example}")
    return Row(line, cells)
