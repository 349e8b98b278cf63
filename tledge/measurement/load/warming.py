"""Runs before anything is measured, until latency is steady."""

from __future__ import annotations

import time
from collections import deque

import numpy as np

from tledge.measurement.subject import Subject
from tledge.schema import WarmUp

# Long enough for a processor to raise its clock in; a slow model fills a window with a single run.
_WINDOW_S = 0.05
_WINDOWS = 3
_STEADY = 0.03
_MOST_S = 3.0


def warm_up(subject: Subject) -> WarmUp:
    """Run until the medians of three windows in a row lie within 3 % of one another, or for three seconds.

    A window is 50 ms of runs, of a slow model one run. Two runs are made in any case: the first one of a session
    allocates its memory.
    """
    feed, runs = subject.feed(subject.batch_sizes[0]), 0
    medians: deque[float] = deque(maxlen=_WINDOWS)
    start = time.perf_counter()
    while True:
        times = _window(subject, feed)
        runs += len(times)
        medians.append(float(np.median(times)))
        spent = time.perf_counter() - start
        settled = len(medians) == _WINDOWS and max(medians) <= (1 + _STEADY) * min(medians)
        if settled or (spent >= _MOST_S and runs > 1):
            return WarmUp(runs, spent, settled)


def _window(subject: Subject, feed: dict[str, np.ndarray]) -> list[float]:
    times: list[float] = []
    begin = now = time.perf_counter()
    while now - begin < _WINDOW_S:
        before = now
        subject.run(feed)
        now = time.perf_counter()
        times.append(now - before)
    return times
