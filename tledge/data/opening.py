"""Get at what a sample is: the bytes of its file, or its array."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from tledge.errors import DataError
from tledge.schema import Sample


def opened(sample: Sample) -> bytes | np.ndarray | str:
    """Return the bytes of the sample's file, or its `value`: uint8 pixels, a float32 vector or a text.

    The bytes must be those that the digest was taken of, since features are kept under it. Raises DataError when the
    file cannot be read or has changed.
    """
    if sample.value is not None:
        return sample.value
    try:
        contents = Path(sample.path).read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from error
    if hashlib.sha256(contents).hexdigest() != sample.digest:
        raise DataError("changed since it was listed")
    return contents
