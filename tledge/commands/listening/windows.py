"""A stream of samples → windows of it, however the samples come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np


class Window(NamedTuple):
    """Samples float32 [n] and where in the stream they begin."""

    start: int
    samples: np.ndarray

    @property
    def end(self) -> int:
        """Where the sample behind the last one stands."""
        return self.start + len(self.samples)


def windows(chunks: Iterable[np.ndarray], size: int, hop: int) -> Iterator[Window]:
    """Yield windows of `size` samples, `hop` apart, over a stream of `chunks` float32 [n].

    One more ends where the stream ends, unless one does already. It is shorter than `size` when the stream is.
    No more than a window and a chunk are held at a time.
    """
    held, at, due = np.empty(0, np.float32), 0, 0  # `held` begins at sample `at`, the next window at `due`
    for chunk in chunks:
        held = np.concatenate([held, chunk])
        while due + size <= at + len(held):
            held, at = held[due - at :], due
            yield Window(at, held[:size])
            due += hop
    if len(held) > (size if due else 0):
        last = max(0, len(held) - size)
        yield Window(at + last, held[last:])
