"""How a model is used, and what is measured then. The names are MLPerf Inference's (Reddi et al. 2020)."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from tledge.measurement.statistics import median_interval
from tledge.measurement.subject import Subject
from tledge.schema import Offline, SingleStream

_WINDOW = 10
_STABLE = 0.03
_WARM_UP_S = 3.0


def warm_up(subject: Subject) -> int:
    """Run until the median of ten runs has settled within 3 %, or for three seconds; return the number of runs.

    Ten runs are made in any case, however long they take.
    """
    feed, runs, before = subject.feed(_least(subject)), 0, 0.0
    end = time.perf_counter() + _WARM_UP_S
    while time.perf_counter() < end:
        now = float(np.median([timed(lambda: subject.run(feed)) for _ in range(_WINDOW)]))
        runs += _WINDOW
        if abs(now - before) <= _STABLE * before:
            break
        before = now
    return runs


def single_stream(subject: Subject, seconds: float) -> SingleStream:
    """Run one sample after the other for `seconds`; no run is dropped from the figures.

    A graph of a fixed batch runs whole batches.
    """
    feed, times = subject.feed(_least(subject)), []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        times.append(timed(lambda: subject.run(feed)))
    ms = 1000 * np.array(times)
    p50, p90, p99 = (float(q) for q in np.quantile(ms, [0.5, 0.9, 0.99]))
    low, high = median_interval(ms)
    return SingleStream(len(ms), p50, p90, p99, float(ms.min()), float(ms.max()), float(ms.mean()), low, high)


def offline(subject: Subject, seconds: float) -> Offline:
    """Run batches of each size for its share of `seconds`; the rate is samples over time, pauses included."""
    sizes = subject.batch_sizes
    rates = {str(size): _rate(subject, size, seconds / len(sizes)) for size in sizes}
    best = max(rates, key=lambda size: rates[size])
    return Offline(rates[best], int(best), rates)


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that `call` takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _least(subject: Subject) -> int:
    return subject.batch_sizes[0]


def _rate(subject: Subject, size: int, seconds: float) -> float:
    feed, done = subject.feed(size), 0
    subject.run(feed)  # the first run of a shape allocates
    start = time.perf_counter()
    while not done or time.perf_counter() - start < seconds:
        subject.run(feed)
        done += size
    return done / (time.perf_counter() - start)
