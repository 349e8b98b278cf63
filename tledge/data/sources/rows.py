"""Rows of arrays → Items: what the sources that hold arrays share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from tledge.data.listing import Item
from tledge.errors import DataError
from tledge.schema import Kind, Split


def digests(values: np.ndarray) -> list[str]:
    """Return the SHA-256, in hex, of each row: over its dtype, its shape and its bytes in C order, little-endian."""
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    start = hashlib.sha256(f"{values.dtype.str} {values.shape[1:]} ".encode())
    found = []
    for row in values:
        digest = start.copy()
        digest.update(row)
        found.append(digest.hexdigest())
    return found


def items(place: str, values: np.ndarray, class_names: Sequence[tuple[str, ...]], split: Split | None) -> list[Item]:
    """Return one Item per row: `values` are uint8 [n, h, w] or [n, h, w, 3], or float32 [n, d].

    The items' values are read-only views; their paths are `place` and the number of the row.
    """
    values.flags.writeable = False
    kind: Kind = "vector" if values.ndim == 2 else "image"
    return [
        Item(f"{place}[{number}]", names, split, digest, value, kind=kind)
        for number, (value, names, digest) in enumerate(zip(values, class_names, digests(values), strict=True))
    ]


def named(labels: np.ndarray, names: Sequence[str], place: str) -> list[tuple[str, ...]]:
    """Return the class name of each label int [n], as the Items take it; DataError when one lies outside of `names`."""
    odd = np.flatnonzero((labels < 0) | (labels >= len(names)))
    if odd.size:
        raise DataError(
            f"{place} row {odd[0]} must be labelled 0 to {len(names) - 1}, as there are names; found {labels[odd[0]]}.",
            "Correct the labels or the names.",
        )
    tuples = [(str(name),) for name in names]
    return [tuples[label] for label in labels.tolist()]
