"""Look into files: is it a picture, and what is its digest? Each file is opened and read once, several at a time."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_CHUNK_BYTES = 1 << 20
_FILES_PER_TASK = 32
_SIGNATURES = (
    b"\xff\xd8\xff",  # JPEG
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"II*\0",  # TIFF, and with 64-bit offsets
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
)
_BMP_HEADER_BYTES = (12, 40, 52, 56, 64, 108, 124)


def is_picture(head: bytes) -> bool:
    """Tell by the first 18 bytes of a file whether it is a JPEG, PNG, GIF, TIFF, WebP or BMP, whatever its name."""
    if head.startswith(_SIGNATURES):
        return True
    if head.startswith(b"RIFF"):
        return head[8:12] == b"WEBP"
    return head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADER_BYTES


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder, sorted; none when it cannot be listed."""
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError:
        return []


def digest_picture(path: str) -> tuple[str, str]:
    """Return (SHA-256 of the file in hex, "") of a regular file that is a picture, ("", reason) of any other."""
    try:
        with io.FileIO(path) as file:
            return _digest(file)
    except OSError as error:
        return "", f"cannot be read ({error.strerror})"


def _digest(file: io.FileIO) -> tuple[str, str]:
    chunk = file.read(_CHUNK_BYTES)
    if not is_picture(chunk):
        return "", "not a picture" if chunk else "empty file (0 bytes)"
    digest = hashlib.sha256()
    while chunk:
        digest.update(chunk)
        chunk = file.read(_CHUNK_BYTES)
    return digest.hexdigest(), ""


def digest_pictures(paths: Sequence[str]) -> list[tuple[str, str]]:
    """Return `digest_picture` of each path; reading and hashing let go of the interpreter's lock, so threads help."""
    tasks = [paths[start : start + _FILES_PER_TASK] for start in range(0, len(paths), _FILES_PER_TASK)]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return [outcome for outcomes in pool.map(_digest_task, tasks) for outcome in outcomes]


def _digest_task(paths: Sequence[str]) -> list[tuple[str, str]]:
    return [digest_picture(path) for path in paths]
