"""A NumPy file `.npz` of pictures or vectors: `x_train`, `y_train` and, if any, `x_test`, `x_val`; or `x`, `y`.

- Names may be in capitals, and MedMNIST's (`train_images`, `train_labels`, …) are known too.
- `classes` (or `class_names`), strings, names the classes by number. Nothing is ever unpickled.
- For samples see `array_values`, for labels `array_labels`.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from tledge.data.listing import Item, Listing
from tledge.data.sources import array_labels, array_values, rows
from tledge.data.sources.memory import require_room
from tledge.errors import DataError
from tledge.schema import Split

_PAIRS: tuple[tuple[str, str, Split | None], ...] = (
    ("x", "y", None),
    ("x_train", "y_train", "train"),
    ("x_val", "y_val", "val"),
    ("x_test", "y_test", "test"),
    ("train_images", "train_labels", "train"),
    ("val_images", "val_labels", "val"),
    ("test_images", "test_labels", "test"),
)
_CLASSES = ("classes", "class_names")
_HINT = "Write it with: numpy.savez(FILE, x_train=…, y_train=…, x_test=…, y_test=…)"


def accepts(path: Path) -> bool:
    """Tell whether `path` is a file that is called .npz."""
    return path.suffix.lower() == ".npz" and path.is_file()


def scan(path: Path) -> Listing:
    """List the rows of the arrays as samples that carry their value.

    Raises DataError when the file is no .npz, arrays are missing or do not go together, or a row cannot be used.
    """
    arrays, everything = _load(path)
    pairs = [pair for pair in _PAIRS if pair[0] in arrays or pair[1] in arrays]
    if not pairs:
        found = ", ".join(everything[:8]) or "nothing"
        raise DataError(f"{path} must hold x_train and y_train, or x and y; found {found}.", _HINT)
    for x, y, _ in pairs:
        _require_pair(arrays, x, y, path)
    names = next((arrays[key] for key in _CLASSES if key in arrays), None)
    labels = array_labels.read({y: arrays[y] for _, y, _ in pairs}, names, str(path))
    values, notes = array_values.convert({x: arrays.pop(x) for x, _, _ in pairs}, str(path))
    items: list[Item] = []
    for x, y, split in pairs:
        items += rows.items(f"{path}[{x}]", values[x], labels.names[y], split)
    return Listing(tuple(items), (), labels.classes, labels.multilabel, tuple(notes))


def _require_pair(arrays: dict[str, np.ndarray], x: str, y: str, path: Path) -> None:
    for name, other in ((x, y), (y, x)):
        if name not in arrays:
            raise DataError(f"{path} holds {other}, but no {name}.", _HINT)
    counts = [arrays[name].shape[0] if arrays[name].ndim else 0 for name in (x, y)]
    if counts[0] != counts[1]:
        raise DataError(f"{path} must label each sample; found {counts[0]} in {x} and {counts[1]} in {y}.", _HINT)


def _load(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the arrays that matter, by their names in small letters, and the names of all there are."""
    known = {name for x, y, _ in _PAIRS for name in (x, y)} | set(_CLASSES)
    try:
        with zipfile.ZipFile(path) as archive:
            members = {Path(info.filename).stem: info.file_size for info in archive.infolist()}
        require_room(path, sum(size for name, size in members.items() if name.lower() in known))
        with np.load(path, allow_pickle=False) as file:
            return {name.lower(): file[name] for name in file.files if name.lower() in known}, file.files
    except (OSError, EOFError, ValueError, MemoryError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{path} cannot be read as plain arrays ({reason}).", _HINT) from error
