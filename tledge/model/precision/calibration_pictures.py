"""Which samples a precision is calibrated on, and they as batches for the graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tledge import modalities
from tledge.errors import DataError
from tledge.reading import read
from tledge.schema import Backbone, Sample

CALIBRATION_IMAGES = 128
_BATCH = 4  # pictures whose activations are in memory at a time


def choose(samples: Sequence[Sample], count: int = CALIBRATION_IMAGES) -> list[Sample]:
    """Return up to `count` of `samples`, spread evenly over their digests, in the order of these."""
    ordered = sorted(samples, key=lambda sample: sample.digest)
    if len(ordered) <= count:
        return ordered
    return [ordered[i * len(ordered) // count] for i in range(count)]


def part(samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Return up to 128 of `samples` to calibrate on, and of other contents a quarter as many to judge by.

    Where all have one content, it is both.
    """
    contents = choose(list({sample.digest: sample for sample in samples}.values()), CALIBRATION_IMAGES * 5 // 4)
    judged = contents[::5]
    return [each for i, each in enumerate(contents) if i % 5] or judged, judged


def batches(
    samples: Sequence[Sample], backbone: Backbone, metadata: Mapping[str, str] | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """Yield `samples` as feeds of a few for the graph of `backbone`; files that cannot be decoded are passed over.

    `metadata` is that of the graph, in which that of texts has its tokenizer. Raises DataError when none can.
    """
    reader, found = modalities.reader(backbone.preprocess, metadata or {}), 0
    for start in range(0, len(samples), _BATCH):
        rows = []
        for sample in samples[start : start + _BATCH]:
            try:
                rows.append(read(sample, reader))
            except DataError:
                continue
        if rows:
            found += len(rows)
            yield reader.feed(rows)
    if not found:
        raise DataError(
            "Calibration needs at least one readable training sample, found none.", "Check the data folder."
        )
