"""Files of word vectors: GloVe's text, word2vec's text and word2vec's binary form → words and a table.

Text: a word and its numbers on each line, separated by blanks; word2vec's begins with a line of two numbers, how many
words and how many numbers each. Binary: that same line, then for each word its bytes, a blank and little-endian
float32, with or without a line end behind. Words come the most frequent first, so that of a file too large for a model
its beginning is taken.
Source: word2vec.c of the original word2vec; glove.c of GloVe 1.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tledge.errors import BackboneError

# A graph may have 2 GiB; a table is copied once or twice on its way into the file.
LARGEST_TABLE_BYTES = 512 << 20
LARGEST_DIMENSION = 4096
_LONGEST_WORD_BYTES, _LONGEST_LINE_BYTES = 4096, 1 << 20
_CHUNK_BYTES = 1 << 20
_HINT = "Take the file again from where it came."


@dataclass(frozen=True, slots=True)
class WordVectors:
    """Words in order, the table float32 [words, dimension] with a row for each, and how many the file holds."""

    words: list[str]
    table: np.ndarray
    found: int


def read(path: Path) -> WordVectors:
    """Return the word vectors in the file at `path`. Of a word that comes twice the first stays.

    Raises BackboneError that names the line, or in a binary file the word, for a wrong number of numbers, numbers that
    are none or not finite, words that are no UTF-8, and a file cut short.
    """
    try:
        with path.open("rb") as file:
            header = _header(file.readline(_LONGEST_LINE_BYTES))
            if path.suffix.lower() == ".bin":
                if header is None:
                    raise BackboneError(
                        f"{path.name}, line 1: must be two numbers, of words and of numbers each.", _HINT
                    )
                return _read_binary(file, path.name, *header)
            if header is None:
                file.seek(0)
            return _read_text(file, path, header)
    except OSError as error:
        raise BackboneError(f"Cannot read {path}: {error.strerror}.", "Check the path and its permissions.") from error


def _header(line: bytes) -> tuple[int, int] | None:
    """Return how many words and numbers the first `line` of a file says, None where it is no such line."""
    fields = line.split()
    if len(fields) != 2 or not all(field.isdigit() and len(field) < 12 for field in fields):
        return None
    return int(fields[0]), int(fields[1])


def _kept(count: int, dimension: int, name: str) -> int:
    """Return how many of `count` words fit."""
    if not 0 < dimension <= LARGEST_DIMENSION or count < 1:
        raise BackboneError(
            f"{name} must hold words of 1 to {LARGEST_DIMENSION} numbers: {count} × {dimension}.", _HINT
        )
    return min(count, LARGEST_TABLE_BYTES // (4 * dimension))


# ── Text ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _read_text(file: BinaryIO, path: Path, header: tuple[int, int] | None) -> WordVectors:
    start, first = file.tell(), file.readline(_LONGEST_LINE_BYTES)
    dimension = header[1] if header else len(first.split()) - 1
    lines = _count_lines(path) - (header is not None)
    most = _kept(lines, dimension, path.name)
    if header and header[0] != lines:
        raise BackboneError(f"{path.name} must hold the {header[0]} words of its first line, but has {lines}.", _HINT)
    file.seek(start)
    taken = _Taken(most, dimension, path.name)
    offset = 1 + (header is not None)
    for number, line in enumerate(islice(iter(lambda: file.readline(_LONGEST_LINE_BYTES), b""), most), offset):
        taken.add(*_split(line, dimension, f"{path.name}, line {number}"), f"line {number}")
    return taken.all(lines)


def _count_lines(path: Path) -> int:
    count, last = 0, b"\n"
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            count, last = count + chunk.count(b"\n"), chunk
    return count + (not last.endswith(b"\n"))


def _split(line: bytes, dimension: int, where: str) -> tuple[bytes, np.ndarray]:
    """Return the word and the numbers of a `line`. GloVe's words may hold blanks: ". . ." is one."""
    fields = line.rstrip().rsplit(b" ", dimension)
    if len(fields) != dimension + 1 or (b" " in fields[0] and _is_number(fields[0].rsplit(b" ", 1)[1])):
        found = len(line.split()) - 1
        raise BackboneError(f"{where}: must have {dimension} numbers behind its word, but has {found}.", _HINT)
    try:
        return fields[0], np.array(fields[1:], np.float32)
    except ValueError as error:
        wrong = next(field for field in fields[1:] if not _is_number(field))
        raise BackboneError(f"{where}: must have numbers, but has {wrong[:40]!r}.", _HINT) from error


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


# ── Binary ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _read_binary(file: BinaryIO, name: str, count: int, dimension: int) -> WordVectors:
    most = _kept(count, dimension, name)
    taken = _Taken(most, dimension, name)
    for number in range(1, most + 1):
        word = _word(file, f"{name}, word {number} of {count}")
        numbers = file.read(4 * dimension)
        if len(numbers) < 4 * dimension:
            raise BackboneError(f"{name}, word {number} of {count}: the file is cut short.", _HINT)
        taken.add(word, np.frombuffer(numbers, "<f4"), f"word {number}")
    return taken.all(count)


def _word(file: BinaryIO, where: str) -> bytes:
    word = bytearray()
    while (byte := file.read(1)) != b" ":
        if not byte or len(word) > _LONGEST_WORD_BYTES:
            raise BackboneError(f"{where}: the file is cut short, or no word2vec file.", _HINT)
        word += byte
    return bytes(word).lstrip(b"\n")


class _Taken:
    """The rows taken so far. There is room for all at once, so that none is copied."""

    def __init__(self, most: int, dimension: int, name: str) -> None:
        self._places: dict[str, int] = {}
        self._table = np.empty((most, dimension), np.float32)
        self._name = name

    def add(self, word: bytes, numbers: np.ndarray, where: str) -> None:
        try:
            text = word.decode()
        except UnicodeDecodeError as error:
            raise BackboneError(f"{self._name}, {where}: the word must be UTF-8: {word[:40]!r}.", _HINT) from error
        if not text:
            raise BackboneError(f"{self._name}, {where}: there is no word.", _HINT)
        place = len(self._places)
        if self._places.setdefault(text, place) == place:
            self._table[place] = numbers
            if not np.isfinite(numbers).all():
                raise BackboneError(f"{self._name}, {where}: the numbers of {text!r} must be finite.", _HINT)

    def all(self, found: int) -> WordVectors:
        return WordVectors(list(self._places), self._table[: len(self._places)], found)
