"""Samples without labels, to predict on: the rows of a NumPy file."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from tledge.data.sources import array_values
from tledge.errors import DataError

SUFFIXES = (".npy", ".npz")
_NAMES = ("x_test", "x", "test_images", "images", "vectors", "x_val", "x_train")
_BROKEN = (OSError, EOFError, ValueError, MemoryError, RuntimeError, zlib.error, zipfile.BadZipFile)


def read(path: str | Path) -> list[tuple[str, np.ndarray]]:
    """Return (name, value) of each row of the .npy file, or of the array in the .npz that is there to be tested on.

    Of an .npz its only array is taken, or the first there is of x_test, x, test_images, images, vectors, x_val and
    x_train. A value is a picture, uint8 [h, w] or [h, w, 3], or a vector, float32 [length]. Nothing is unpickled.
    Raises DataError when the file cannot be read or holds no samples.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        name, rows = ("", loaded) if isinstance(loaded, np.ndarray) else _chosen(loaded)
    except _BROKEN as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{path} cannot be read as a NumPy file: {reason}.", "Check the path.") from error
    values = array_values.convert({name: rows}, str(path))[0][name]
    place = f"{path}[{name}]" if name else str(path)
    return [(f"{place}[{number}]", value) for number, value in enumerate(values)]


def _chosen(archive: np.lib.npyio.NpzFile) -> tuple[str, np.ndarray]:
    with archive:
        names = {name.lower(): name for name in archive.files}
        name = next((names[each] for each in _NAMES if each in names), archive.files[0] if len(names) == 1 else "")
        if not name:
            raise ValueError(f"it holds {', '.join(archive.files[:5]) or 'nothing'}, but none of {', '.join(_NAMES)}")
        return name, archive[name]
