"""Converted backbones kept on disk. A file's name ends in the digest of its own bytes, so that damage shows.

Writers never touch a file that a reader may hold: they write beside it and rename. As equal conversions have equal
names, two processes that convert at once leave one good file.
Source: the habit of content-addressed caches, as in git's object store.
"""

from __future__ import annotations

import glob
import hashlib
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tledge.errors import OutputError

_DIGITS_IN_NAME = 16


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file whose bytes are what its name promises; `digest` is their SHA-256 in hex."""

    path: Path
    digest: str


def find(folder: Path, stem: str, suffix: str = ".onnx") -> KeptFile | None:
    """Return the undamaged file in `folder` that was kept as `stem`, its time set to now, or None."""
    for path in sorted(folder.glob(f"{glob.escape(stem)}-*{suffix}")):
        digest = _digest(path)
        if digest is not None and path == _path(folder, stem, digest, suffix):
            with suppress(OSError):  # a cache that may only be read is not pruned either
                os.utime(path)
            return KeptFile(path, digest)
    return None


def keep(folder: Path, stem: str, data: bytes, suffix: str = ".onnx") -> KeptFile:
    """Write `data` into `folder` under `stem` and its digest. Raises OutputError when that is not possible."""
    digest = hashlib.sha256(data).hexdigest()
    path = _path(folder, stem, digest, suffix)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_beside_and_rename(path, data)
    except OSError as error:
        raise OutputError(
            f"Cannot write {path}: {error.strerror}.", "Free the space, or set TLEDGE_CACHE_DIR to another folder."
        ) from error
    return KeptFile(path, digest)


def _path(folder: Path, stem: str, digest: str, suffix: str) -> Path:
    return folder / f"{stem}-{digest[:_DIGITS_IN_NAME]}{suffix}"


def _digest(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _write_beside_and_rename(path: Path, data: bytes) -> None:
    beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with beside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
