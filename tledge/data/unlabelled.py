"""Samples without labels, to predict on: the rows of a NumPy file or of a table, and the lines of texts."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from tledge.data.sources import array_values, number_table, table, table_rows, text_table
from tledge.data.sources.table_cells import Refused
from tledge.data.sources.table_rows import Odd, Row, place
from tledge.errors import DataError
from tledge.schema import Problem

ARRAYS = (".npy", ".npz")
TABLES = table_rows.SUFFIXES
_NAMES = ("x_test", "x", "test_images", "images", "vectors", "x_val", "x_train")
_BROKEN = (OSError, EOFError, ValueError, MemoryError, RuntimeError, zlib.error, zipfile.BadZipFile)
Value = np.ndarray | str | bytes | Path


def read(path: str | Path, columns: Sequence[str] = ()) -> tuple[list[tuple[str, Value]], list[Problem]]:
    """Return (name, value) of each row of a file called as ARRAYS or TABLES, and which rows of a table cannot be used.

    A value is a picture, uint8 [h, w] or [h, w, 3], or a vector, float32 [length]; of a table with a column `path` the
    file that it names, or else with a column `text` the text. Of other tables the numbers in `columns` count, or in
    all as when they are trained on. Raises DataError when the file cannot be read or holds no samples.
    """
    path = Path(path)
    return (_arrays(path), []) if path.suffix.lower() in ARRAYS else _rows(path, columns)


def lines(file: IO[bytes], name: str) -> list[tuple[str, Value]]:
    """Return (name and number, bytes) of each line of `file`, without its end; an empty one is a sample too."""
    return [(f"{name} line {number}", line.rstrip(b"\r\n")) for number, line in enumerate(file, start=1)]


# ── Tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _rows(path: Path, columns: Sequence[str]) -> tuple[list[tuple[str, Value]], list[Problem]]:
    rows, value_of = _readable(path, columns)
    found: list[tuple[str, Value]] = []
    odd: list[Problem] = []
    for row in rows:
        where = place(path, row.line)
        try:
            if isinstance(row, Odd):
                raise Refused(row.reason)
            value = value_of(row)
            found.append((str(value) if isinstance(value, Path) else where, value))
        except Refused as refused:
            odd.append(Problem(where, str(refused)))
    return found, odd


def _readable(path: Path, wanted: Sequence[str]) -> tuple[Iterator[Row | Odd], Callable[[Row], Value]]:
    """Return the rows of the table, and what makes one a value."""
    names = table_rows.columns(path)
    if "path" in names:
        example = '{"path": "1.jpg"}'
        return table_rows.read(path, ("path",), example), lambda row: Path(table.path_of(row, path.parent))
    if "text" in names:
        return table_rows.read(path, ("text",), '{"text": "What is a cat?"}'), text_table.text_of
    columns = number_table.Columns(path, wanted)
    return columns.rows(), columns.vector_of


# ── NumPy files ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _arrays(path: Path) -> list[tuple[str, Value]]:
    try:
        loaded = np.load(path, allow_pickle=False)
        name, rows = ("", loaded) if isinstance(loaded, np.ndarray) else _chosen(loaded)
    except _BROKEN as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{path} cannot be read as a NumPy file: {reason}.", "Check the path.") from error
    values = array_values.convert({name: rows}, str(path))[0][name]
    of = f"{path}[{name}]" if name else str(path)
    return [(f"{of}[{number}]", value) for number, value in enumerate(values)]


def _chosen(archive: np.lib.npyio.NpzFile) -> tuple[str, np.ndarray]:
    with archive:
        names = {name.lower(): name for name in archive.files}
        name = next((names[each] for each in _NAMES if each in names), archive.files[0] if len(names) == 1 else "")
        if not name:
            raise ValueError(f"it holds {', '.join(archive.files[:5]) or 'nothing'}, but none of {', '.join(_NAMES)}")
        return name, archive[name]
