"""Which rows are held out together when a head is cross-validated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tledge.data import folds
from tledge.errors import DataError
from tledge.schema import Sample

_FOLDS = 5
_MUCH = 200_000  # rows × classes from which one held-out fifth says enough; a pass over five took four times as long


def assign(samples: Sequence[Sample], seed: int, count: int = _FOLDS) -> np.ndarray:
    """Return the fold int [n] of each sample, -1 for never held out, as `data.folds` does it.

    Views of one sample are in one fold. Where all samples are one group, it is taken apart. Raises DataError when
    there are no two different samples.
    """
    most = folds.most(samples)
    if most < 2:
        samples = [replace(sample, group=None) for sample in samples]
        most = folds.most(samples)
    if most < 2:
        raise DataError(f"A head is fitted to two different samples at least, found {most}.", "Add some.")
    found = folds.assign(samples, min(count, most), seed)
    classes = len({sample.label for sample in samples})
    return np.where(found == 0, 0, -1) if len(samples) * classes > _MUCH else found
