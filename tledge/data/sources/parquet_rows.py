"""Parquet files → rows of plain values, where pyarrow is there to read them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tledge.errors import DataError, MissingExtra

SUFFIXES = (".parquet",)
_ROWS = 4096  # at a time


def accepts(path: Path) -> bool:
    """Tell whether `path` is called a Parquet file."""
    return path.suffix.lower() in SUFFIXES


def columns(path: Path) -> tuple[str, ...]:
    """Return the names of the columns. Raises MissingExtra without pyarrow, DataError for a file that is damaged."""
    with _opened(path) as file:
        return tuple(file.schema_arrow.names)


def read(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows, counted from 1, as their cells by column. Raises as `columns` does."""
    with _opened(path) as file:
        number = 0
        for batch in file.iter_batches(_ROWS):
            for cells in batch.to_pylist():
                number += 1
                yield number, cells


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("pyarrow, which reads Parquet files,", "parquet") from error
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (OSError, pyarrow.ArrowException) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path} cannot be read as Parquet ({reason}).", "Write it again.") from error
