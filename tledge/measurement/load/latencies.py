"""Latencies, kept one by one as they are measured, and what is told of them: quantiles, distribution, timeline."""

from __future__ import annotations

import gc
import itertools
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tledge.measurement.statistics import median_interval
from tledge.schema import Histogram, Window

# When each query began and ended, in ns of `time.perf_counter_ns`, one after the other: 16 bytes for a query.
Marks = array
Run = Callable[[None, Any], Any]

_ENOUGH_FOR_P999 = 10_000  # ten of them lie beyond it
_BINS, _WINDOWS, _LEAST_IN_WINDOW = 60, 100, 10


def stream(run: Run, queries: Sequence[tuple[Any, ...]], seconds: float) -> Marks:
    """Send the feeds of one of `queries` after the other to `run`, over and over for `seconds`, at least once."""
    marks, clock = Marks("q"), time.perf_counter_ns
    note = marks.append
    with undisturbed():
        end = clock() + round(1e9 * seconds)
        for query in itertools.cycle(queries):
            start = clock()
            for feed in query:
                run(None, feed)
            now = clock()
            note(start)
            note(now)
            if now >= end:
                break
    return marks


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep Python's garbage collection, which would be our noise and not the model's, out of the block."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def milliseconds(marks: Marks) -> np.ndarray:
    """Return float64 [queries], the latency of each query."""
    spans = np.frombuffer(marks, np.int64).reshape(-1, 2)
    return (spans[:, 1] - spans[:, 0]) / 1e6


def figures(marks: Marks) -> dict[str, Any]:
    """Return the fields of schema.Latencies but its validity, by name; none of `marks` is left out."""
    ms = milliseconds(marks)
    starts = np.frombuffer(marks, np.int64)[::2]
    p50, p90, p99, p999 = (float(each) for each in np.quantile(ms, [0.5, 0.9, 0.99, 0.999]))
    low, high = median_interval(ms)
    return {
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        "p999_ms": p999 if enough_for_p999(len(ms)) else None,
        "min_ms": float(ms.min()),
        "max_ms": float(ms.max()),
        "mean_ms": float(ms.mean()),
        "p50_low_ms": low,
        "p50_high_ms": high,
        "histogram": histogram(ms),
        "timeline": timeline((starts - starts[0]) / 1e9, ms),
    }


def enough_for_p999(count: int) -> bool:
    """Return whether `count` latencies say where the one in a thousand lies: ten must lie beyond it."""
    return count >= _ENOUGH_FOR_P999


def histogram(ms: np.ndarray) -> Histogram:
    """Count `ms` float [n] in bins that grow by one factor, from the smallest to the largest."""
    low, high = float(ms.min()), float(ms.max())
    bins = _BINS if 0 < low < high else 1
    edges = np.geomspace(low, high, bins + 1) if bins > 1 else np.array([low, high])
    edges[0], edges[-1] = low, high  # which rounding may have left outside
    places = np.clip(np.searchsorted(edges, ms, side="right") - 1, 0, bins - 1)
    return Histogram(tuple(map(float, edges)), tuple(map(int, np.bincount(places, minlength=bins))))


def timeline(starts_s: np.ndarray, ms: np.ndarray) -> tuple[Window, ...]:
    """Return median and p99 of `ms` float [n] in up to 100 windows of equal length, by `starts_s` float [n], ascending.

    Windows are long enough to hold ten each, on average; those in which nothing began are left out.
    """
    count = min(_WINDOWS, max(1, len(ms) // _LEAST_IN_WINDOW))
    width = (float(starts_s[-1]) / count) or 1.0
    cuts = np.searchsorted(starts_s, width * np.arange(1, count))
    pieces = np.split(ms, cuts)
    return tuple(
        Window(number * width, float(np.median(piece)), float(np.quantile(piece, 0.99)))
        for number, piece in enumerate(pieces)
        if len(piece)
    )
