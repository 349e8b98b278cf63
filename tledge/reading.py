"""Sample → row: its file opened, the part and the view of it that it stands for."""

from __future__ import annotations

import numpy as np

from tledge import augment
from tledge.data.opening import opened
from tledge.modalities import Reader
from tledge.schema import Sample


def read(sample: Sample, reader: Reader) -> np.ndarray:
    """Return `sample` as `reader` makes it, one row. Raises DataError where it cannot be read, or has changed."""
    row = reader.load(opened(sample), sample.part)
    if not sample.view:
        return row
    content = sample.digest if sample.part is None else f"{sample.digest} {sample.part}"
    return augment.apply(sample.view, content, row, reader.rate)
