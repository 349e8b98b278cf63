"""The feature cache: one SQLite file, one row per (space, sample).

A space is everything but the sample that decides a feature vector: backbone graph, preprocessing, engine precision.
A sample is the SHA-256 of its file's bytes. SQLite's write-ahead log makes each batch of rows appear whole or not at
all, lets several runs share the file, and survives a kill at any moment. Features are stored as little-endian float32:
what the head is fitted on is then, bit for bit, what the shipped graph computes. The activations that fine-tuning
starts from are many times larger, and kept as float16.
"""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tledge.errors import OutputError, TledgeError

FILE_NAME = "features.sqlite"
_SCHEMA_VERSION = 2
_USED_RESOLUTION_S = 3600  # when a row was last used is only needed to the hour, so that hits seldom write
_BUSY_S = 60
_RETRY_S = 0.01
_CHUNK = 500  # digests per SELECT, below every SQLite's limit of bound variables

_SCHEMA = """
CREATE TABLE IF NOT EXISTS spaces (
    id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, label TEXT NOT NULL, dimension INTEGER NOT NULL,
    itemsize INTEGER NOT NULL DEFAULT 4);
CREATE TABLE IF NOT EXISTS features (
    space INTEGER NOT NULL REFERENCES spaces(id), sample BLOB NOT NULL, used INTEGER NOT NULL,
    checksum INTEGER NOT NULL, vector BLOB NOT NULL, PRIMARY KEY (space, sample));
CREATE INDEX IF NOT EXISTS features_by_use ON features (used);
"""
_FROM_LAYOUT_1 = "ALTER TABLE spaces ADD COLUMN itemsize INTEGER NOT NULL DEFAULT 4;"


@dataclass(frozen=True, slots=True)
class Space:
    """The name under which vectors of one backbone, preprocessing and engine precision are kept.

    A vector is `dimension` numbers of `itemsize` bytes: 4 for float32, 2 for float16.
    """

    digest: str
    label: str
    dimension: int
    itemsize: int = 4

    @property
    def dtype(self) -> np.dtype:
        """The type of the numbers as they are stored."""
        return np.dtype(f"<f{self.itemsize}")


class FeatureStore:
    """The feature cache in `folder`. Use it as a context manager; every method may raise OutputError (disk, damage)."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        with self._explained():
            # Autocommit, so that a transaction is exactly what a `with self._transaction()` block spans.
            self._db = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None)
            self._db.text_factory = _text
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(self, *exc: object) -> None:
        self._db.close()

    def find(self, space: Space, digests: Iterable[str]) -> dict[str, np.ndarray]:
        """Return {digest: float [dimension]} for those of `digests` that are kept; a damaged row counts as absent."""
        wanted = [bytes.fromhex(digest) for digest in dict.fromkeys(digests)]
        found: dict[str, np.ndarray] = {}
        with self._explained():
            row = self._db.execute("SELECT id FROM spaces WHERE digest = ?", (space.digest,)).fetchone()
            if row is None:
                return found
            for start in range(0, len(wanted), _CHUNK):
                chunk = wanted[start : start + _CHUNK]
                marks = ",".join("?" * len(chunk))
                query = f"SELECT sample, checksum, vector FROM features WHERE space = ? AND sample IN ({marks})"
                for sample, checksum, vector in self._db.execute(query, (row[0], *chunk)):
                    if _sound(vector, checksum, space.dimension * space.itemsize):
                        found[sample.hex()] = np.frombuffer(vector, space.dtype)
                self._touch(row[0], chunk, marks)
        return found

    def add(self, space: Space, vectors: dict[str, np.ndarray]) -> None:
        """Keep {digest: float [dimension]} in one transaction, in place of rows that are there already."""
        now = int(time.time())
        with self._explained(), self._transaction():
            self._db.execute(
                "INSERT OR IGNORE INTO spaces (digest, label, dimension, itemsize) VALUES (?, ?, ?, ?)",
                (space.digest, space.label, space.dimension, space.itemsize),
            )
            (key,) = self._db.execute("SELECT id FROM spaces WHERE digest = ?", (space.digest,)).fetchone()
            rows = ((bytes.fromhex(d), np.ascontiguousarray(v, space.dtype).tobytes()) for d, v in vectors.items())
            self._db.executemany(
                "INSERT OR REPLACE INTO features (space, sample, used, checksum, vector) VALUES (?, ?, ?, ?, ?)",
                ((key, sample, now, zlib.crc32(vector), vector) for sample, vector in rows),
            )

    def summary(self) -> list[tuple[str, int, int]]:
        """Return (label, rows, bytes of vectors) of every space, largest first."""
        query = """SELECT label, COUNT(sample), COALESCE(SUM(LENGTH(vector)), 0) AS size
                   FROM spaces LEFT JOIN features ON space = id GROUP BY id ORDER BY size DESC, label"""
        with self._explained():
            return list(self._db.execute(query))

    def verify(self) -> tuple[int, int]:
        """Check every row against its checksum and drop the damaged ones; return (rows checked, rows dropped)."""
        bad: list[tuple[int]] = []
        checked = 0
        with self._explained():
            (state,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
            if state != "ok":
                raise sqlite3.DatabaseError(state)
            query = (
                "SELECT features.rowid, checksum, vector, dimension * itemsize FROM features JOIN spaces ON space = id"
            )
            for row, checksum, vector, size in self._db.execute(query):
                checked += 1
                if not _sound(vector, checksum, size):
                    bad.append((row,))
            with self._transaction():
                self._db.executemany("DELETE FROM features WHERE rowid = ?", bad)
        return checked, len(bad)

    def prune(self, max_bytes: int) -> tuple[int, int]:
        """Drop the least recently used rows until vectors take at most `max_bytes`; return (rows, bytes) dropped."""
        with self._explained():
            with self._transaction():
                (total,) = self._db.execute("SELECT COALESCE(SUM(LENGTH(vector)), 0) FROM features").fetchone()
                doomed = list(self._least_used(total - max_bytes))
                self._db.executemany("DELETE FROM features WHERE rowid = ?", ((row,) for row, _ in doomed))
                self._db.execute("DELETE FROM spaces WHERE id NOT IN (SELECT DISTINCT space FROM features)")
            if doomed:
                self._db.execute("VACUUM")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return len(doomed), sum(size for _, size in doomed)

    def bytes_since(self, used: float) -> int:
        """Return the bytes of all vectors that were used at the Unix time `used` or later."""
        with self._explained():
            query = "SELECT COALESCE(SUM(LENGTH(vector)), 0) FROM features WHERE used >= ?"
            return self._db.execute(query, (used,)).fetchone()[0]

    def _least_used(self, excess_bytes: int) -> Iterator[tuple[int, int]]:
        for row, size in self._db.execute("SELECT rowid, LENGTH(vector) FROM features ORDER BY used, rowid"):
            if excess_bytes <= 0:
                return
            excess_bytes -= size
            yield row, size

    def _touch(self, space: int, chunk: list[bytes], marks: str) -> None:
        now = int(time.time())
        condition = f"space = ? AND used < ? AND sample IN ({marks})"
        stale = (space, now - _USED_RESOLUTION_S, *chunk)
        if self._db.execute(f"SELECT EXISTS (SELECT 1 FROM features WHERE {condition})", stale).fetchone()[0]:
            self._db.execute(f"UPDATE features SET used = ? WHERE {condition}", (now, *stale))

    def _prepare(self) -> None:
        self._use_write_ahead_log()
        self._db.execute("PRAGMA synchronous = NORMAL")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == _SCHEMA_VERSION:
            return
        if version not in (0, 1):
            raise OutputError(
                f"{self.path} was written by another version of tledge (layout {version}, expected {_SCHEMA_VERSION}).",
                "Move it away, or point TLEDGE_CACHE_DIR elsewhere.",
            )
        with self._transaction():  # another process may have been faster
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version < _SCHEMA_VERSION:
                for statement in (_SCHEMA if version == 0 else _FROM_LAYOUT_1).split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")

    def _use_write_ahead_log(self) -> None:
        # In this one step SQLite does not wait for other processes that open a new file, so the waiting is done here.
        end = time.monotonic() + _BUSY_S
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if not _is_busy(error) or time.monotonic() > end:
                    raise
            time.sleep(_RETRY_S)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (TledgeError, sqlite3.ProgrammingError):
            raise
        except sqlite3.OperationalError as error:
            hint = "Make room there, or point TLEDGE_CACHE_DIR elsewhere."
            if _is_busy(error):
                hint = "Another process holds it: try again when that is done."
            raise OutputError(f"The feature cache {self.path} cannot be used: {error}.", hint) from error
        except sqlite3.DatabaseError as error:
            hint = "Delete it: it is only a cache, and the next run fills it again."
            raise OutputError(f"The feature cache {self.path} is damaged: {error}.", hint) from error


def _is_busy(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY  # the low byte; the rest says why


def _text(raw: bytes) -> str:
    # A vector whose type was damaged must still be read, to be told apart from a sound one.
    return raw.decode("utf-8", "replace")


def _sound(vector: object, checksum: object, size: int) -> bool:
    return isinstance(vector, bytes) and len(vector) == size and zlib.crc32(vector) == checksum
