"""Which rows are held out together when a head is cross-validated."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from tledge.errors import DataError
from tledge.schema import Sample

_FOLDS = 5
_MUCH = 2_000_000  # rows × classes from which one held-out fifth says enough, and five would cost minutes


def assign(samples: Sequence[Sample], seed: int) -> np.ndarray:
    """Return the fold int [n] of each sample, -1 for never held out: stratified, by content and `seed`.

    The same picture twice is in one fold, be it under two labels, so that no fold is tested on what it was fitted to.
    Every fold holds a picture, and leaves one. Raises DataError when there are no two different pictures.
    """
    label_of: dict[str, int] = {}
    for sample in samples:
        label_of[sample.digest] = min(sample.label, label_of.get(sample.digest, sample.label))
    if len(label_of) < 2:
        raise DataError(f"A head is fitted to two different pictures at least, found {len(label_of)}.", "Add images.")
    count = min(_FOLDS, len(label_of))
    # The round goes on from label to label, so that single pictures of many classes do not all meet in the first fold.
    order = sorted(label_of, key=lambda digest: (label_of[digest], _rank(digest, seed)))
    fold_of = {digest: position % count for position, digest in enumerate(order)}
    folds = np.array([fold_of[sample.digest] for sample in samples], np.int64)
    classes = len({sample.label for sample in samples})
    return np.where(folds == 0, 0, -1) if len(samples) * classes > _MUCH else folds


def _rank(digest: str, seed: int) -> bytes:
    return hashlib.sha256(f"folds {seed} {digest}".encode()).digest()
