"""A folder of idx files, as MNIST, Fashion-MNIST and KMNIST come: pictures and labels of a training and a test set.

- `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-…`; `.idx3` for `-idx3` and `test-…` for `t10k-…` will do.
- Gzipped or not: the first bytes decide. Of two files of one name, the plain one is read.
- Classes are called by their number, since the files hold no names.

Source: Yann LeCun, "The MNIST database of handwritten digits", section on file formats.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from pathlib import Path

import numpy as np

from tledge.data.listing import Item, Listing
from tledge.data.sources import rows
from tledge.data.sources.contents import names_in
from tledge.data.sources.memory import require_room
from tledge.errors import DataError
from tledge.schema import Split

_NAME = re.compile(r"(train|t10k|test)-(images|labels)[-.]idx[13]-ubyte(\.gz)?", re.IGNORECASE)
_MAGIC = {"images": b"\0\0\x08\x03", "labels": b"\0\0\x08\x01"}  # two zeros, unsigned bytes, number of dimensions
_GZIP = b"\x1f\x8b"
_MOST_DEFLATED = 1032  # deflate packs no more than this many bytes into one
_HINT = "Get the file again."


def accepts(path: Path) -> bool:
    """Tell whether `path` is a folder that holds an idx file by one of the usual names."""
    return path.is_dir() and bool(_find(path))


def scan(root: Path) -> Listing:
    """List the pictures, uint8 [height, width], of both sets.

    Raises DataError when a file of a pair is missing, is damaged or does not go with the other one.
    """
    files = _find(root)
    items: list[Item] = []
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        found = {kind: path for (of, kind), path in files.items() if of == split}
        if found:
            items += _pair(root, found, split)
    classes = sorted({item.class_names[0] for item in items}, key=int)
    return Listing(tuple(items), classes=tuple(classes))


def _find(root: Path) -> dict[tuple[str, str], Path]:
    """Return the files by (split, "images" or "labels")."""
    files: dict[tuple[str, str], Path] = {}
    for name in names_in(root):
        match = _NAME.fullmatch(name)
        if match and (root / name).is_file():
            split = "train" if match[1].lower() == "train" else "test"
            files.setdefault((split, match[2].lower()), root / name)
    return files


def _pair(root: Path, files: dict[str, Path], split: Split) -> list[Item]:
    missing = _MAGIC.keys() - files.keys()
    if missing:
        there = next(iter(files.values())).name
        raise DataError(f"{root} holds {there}, but no {missing.pop()} that go with it.", "Put them beside it.")
    images, labels = (_read(files[kind], kind) for kind in _MAGIC)
    if len(images) != len(labels):
        raise DataError(f"{files['images']} holds {len(images)} images, but {len(labels)} have labels.", _HINT)
    names = rows.named(labels, [str(number) for number in range(256)], str(files["labels"]))
    return rows.items(str(files["images"]), images, names, split)


# ── One file ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _read(path: Path, kind: str) -> np.ndarray:
    """Return the array uint8 [n, height, width] or [n]; what the header says is weighed before it is believed."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP
        file_bytes = path.stat().st_size
        with gzip.open(path) if packed else path.open("rb") as stream:
            return _read_stream(stream, path, kind, file_bytes * _MOST_DEFLATED if packed else file_bytes)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}).", _HINT) from error


def _read_stream(stream: gzip.GzipFile, path: Path, kind: str, most_bytes: int) -> np.ndarray:
    magic, dimensions = _MAGIC[kind], _MAGIC[kind][3]
    head = stream.read(4 + 4 * dimensions)
    if len(head) < 4 + 4 * dimensions or not head.startswith(magic):
        raise DataError(f"{path} must begin with {magic.hex()}, as idx {kind} do; found {head[:4].hex()}.", _HINT)
    shape = struct.unpack(f">{dimensions}I", head[4:])
    size = math.prod(shape)
    if not size or len(head) + size > most_bytes:
        raise DataError(f"{path} must hold {'×'.join(map(str, shape))} bytes by its header, which cannot be.", _HINT)
    require_room(path, size)
    contents = stream.read(size + 1)
    if len(contents) != size:
        found = "more" if len(contents) > size else len(contents)
        raise DataError(f"{path} must hold {size} bytes by its header; found {found}.", _HINT)
    return np.frombuffer(contents, np.uint8).reshape(shape)
