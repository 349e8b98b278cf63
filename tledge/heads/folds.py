"""Which rows are held out together when a head is cross-validated."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from tledge.schema import Sample

_FOLDS = 5
_MUCH = 2_000_000  # rows × classes from which one held-out fifth says enough, and five would cost minutes


def assign(samples: Sequence[Sample], seed: int) -> np.ndarray:
    """Return the fold int [n] of each sample, -1 for never held out: stratified, by content and `seed`.

    The same picture twice is in one fold, so that no fold is tested on what it was fitted to.
    """
    folds = np.empty(len(samples), np.int64)
    count = min(_FOLDS, len({sample.digest for sample in samples}))
    for label in {sample.label for sample in samples}:
        rows = [i for i, sample in enumerate(samples) if sample.label == label]
        order = {digest: rank for rank, digest in enumerate(sorted({samples[i].digest for i in rows}, key=_key(seed)))}
        folds[rows] = [order[samples[i].digest] % count for i in rows]
    classes = len({sample.label for sample in samples})
    return np.where(folds == 0, 0, -1) if len(samples) * classes > _MUCH else folds


def _key(seed: int):
    return lambda digest: hashlib.sha256(f"folds {seed} {digest}".encode()).digest()
