"""Get at what a sample is: the bytes of its file, or its array."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import numpy as np

from tledge.errors import DataError
from tledge.schema import Sample


def opened(sample: Sample) -> bytes | Path | np.ndarray | str:
    """Return the bytes of the sample's file, or its `value`: uint8 pixels, a float32 vector or a text.

    The bytes must be those that the digest was taken of, since features are kept under it. Of a part of a file comes
    the path, so that not all of a long one is read for each of its parts. Raises DataError when the file cannot be read
    or has changed.
    """
    if sample.value is not None:
        return sample.value
    if sample.part is not None:
        _check_unchanged(sample)
        return Path(sample.path)
    try:
        contents = Path(sample.path).read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from error
    if hashlib.sha256(contents).hexdigest() != sample.digest:
        raise DataError("changed since it was listed")
    return contents


def _check_unchanged(sample: Sample) -> None:
    try:
        status = Path(sample.path).stat()
        digest = _digest(sample.path, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from error
    if digest != sample.digest:
        raise DataError("changed since it was listed")


@functools.lru_cache(maxsize=1024)
def _digest(path: str, state: tuple[int, ...]) -> str:
    """Return the SHA-256 of the file in hex; `state` is what changes when its contents do."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
