"""A folder of CIFAR-10 or CIFAR-100, the Python version (pickles) or the binary version.

- Python: `data_batch_1` … and `test_batch` with `batches.meta`; or `train` and `test` with `meta`.
- Binary: `data_batch_1.bin` … and `test_batch.bin` with `batches.meta.txt`; or `train.bin` and `test.bin` with
  `fine_label_names.txt`. Without a file of names, classes are called by their number.
- Of CIFAR-100's two labels, the fine one is taken. Pictures are uint8 [32, 32, 3].

Source: Alex Krizhevsky, "The CIFAR-10 dataset", section "Dataset layout".
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from tledge.data.listing import Item, Listing
from tledge.data.sources import rows
from tledge.data.sources.cifar_pickle import read_batch, read_names
from tledge.data.sources.contents import names_in
from tledge.data.sources.memory import require_room
from tledge.errors import DataError
from tledge.schema import Split

_PIXELS = 3 * 32 * 32
_CIFAR10 = re.compile(r"(?:(data_batch_\d+)|test_batch)(\.bin)?")
_CIFAR100 = re.compile(r"(?:(train)|test)(\.bin)?")
_HINT = "Get the file again."


def accepts(path: Path) -> bool:
    """Tell whether `path` is a folder that holds a CIFAR batch by its usual name."""
    return path.is_dir() and bool(_find(path)[0])


def scan(root: Path) -> Listing:
    """List the pictures of all batches.

    Raises DataError when a file is damaged, or asks for anything that a CIFAR batch does not need.
    """
    files, fine = _find(root)
    binary = files[0][0].suffix == ".bin"
    require_room(root, sum(path.stat().st_size for path, _ in files))
    read = _read_binary if binary else read_batch
    batches = [(path, split, *read(path, fine)) for path, split in files]
    names = _names(root, binary, fine)
    if not names:
        names = tuple(map(str, range(1 + max(int(labels.max()) for *_, labels in batches))))
    items = [item for batch in batches for item in _items(*batch, names)]
    return Listing(tuple(items), classes=names)


def _find(root: Path) -> tuple[list[tuple[Path, Split]], bool]:
    """Return the batches, the Python ones if there are any, and whether they are those of CIFAR-100."""
    names = names_in(root)
    for fine, pattern in ((False, _CIFAR10), (True, _CIFAR100)):
        for suffix in ("", ".bin"):
            found = _batches(root, names, pattern, suffix)
            # Files called train and test may be anything; only the file beside them tells.
            if found and (suffix or not fine or (root / "meta").is_file()):
                return found, fine
    return [], False


def _batches(root: Path, names: list[str], pattern: re.Pattern[str], suffix: str) -> list[tuple[Path, Split]]:
    matches = [match for name in names if (match := pattern.fullmatch(name)) and (match[2] or "") == suffix]
    files: list[tuple[Path, Split]] = [(root / match[0], "train" if match[1] else "test") for match in matches]
    return [(path, split) for path, split in files if path.is_file()]


def _names(root: Path, binary: bool, fine: bool) -> tuple[str, ...]:
    if binary:
        path = root / ("fine_label_names.txt" if fine else "batches.meta.txt")
        return _read_lines(path) if path.is_file() else ()
    path = root / ("meta" if fine else "batches.meta")
    return read_names(path, fine) if path.is_file() else ()


def _read_lines(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}).", _HINT) from error
    return tuple(line.strip() for line in lines if line.strip())


def _read_binary(path: Path, fine: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels uint8 [n, 3072] and labels int [n]; a row is one label (CIFAR-100: coarse, fine) and the pixels."""
    labels = 2 if fine else 1
    try:
        contents = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).", _HINT) from error
    if not contents.size or contents.size % (labels + _PIXELS):
        raise DataError(
            f"{path} must hold rows of {labels + _PIXELS} bytes; found {contents.size} bytes in all.", _HINT
        )
    table = contents.reshape(-1, labels + _PIXELS)
    return table[:, labels:], table[:, labels - 1].astype(np.int64)


def _items(path: Path, split: Split, data: np.ndarray, labels: np.ndarray, names: tuple[str, ...]) -> list[Item]:
    pictures = np.ascontiguousarray(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    return rows.items(str(path), pictures, rows.named(labels, names, str(path)), split)
