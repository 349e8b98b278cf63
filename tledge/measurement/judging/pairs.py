"""Two models in turn: each pair is one run of both, in random order, so that the machine's pace hits both alike.

Both are opened anew every second or so, since two openings of the same file differ in speed (see intervals.py). Which
one is opened first alternates: the first gets the better or the worse place in memory.

A neighbour hits a long run and a short one unequally: a run of a millisecond mostly ends before the scheduler takes
its core away, one of five does not. Where their ratio must not depend on that, the shorter one runs as often as fills
the time of the longer.
"""

from __future__ import annotations

import random
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from tledge.measurement.subject import Subject

Opener = Callable[[], Subject]
_OPEN_S = 1.0
_SHARE = 4  # opening may take a fifth of the time
_RUNS = 10  # of each opening before anything counts


class _Warm(NamedTuple):
    """A call that runs a model, how often it is called for one latency, and the seconds that one call takes."""

    call: Callable[[], object]
    often: int
    seconds: float


@dataclass(slots=True)
class Pairs:
    """The latencies of all pairs so far in the order in which they ran, in seconds, and how often both were opened."""

    new_s: array = field(default_factory=lambda: array("d"))
    old_s: array = field(default_factory=lambda: array("d"))
    openings: int = 0

    def __len__(self) -> int:
        return len(self.new_s)

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Return both as float64 [pairs], new and old."""
        return np.array(self.new_s), np.array(self.old_s)


def pairs(new: Opener, old: Opener, *, alike: bool = False) -> Iterator[Pairs]:
    """Run `new` and `old` in pairs without end; yields the same Pairs, grown by one, after each of them.

    With `alike` both halves of a pair last about as long: a latency of the faster one is the mean of several runs.
    """
    found, order = Pairs(), random.Random(0)
    while True:
        start = time.perf_counter()
        both = _opened(new, old, found.openings, alike=alike)
        found.openings += 1
        until = time.perf_counter() + max(_OPEN_S, _SHARE * (time.perf_counter() - start))
        while True:
            _run(both, order, found)
            yield found
            if time.perf_counter() >= until:
                break
        both.clear()  # two models in memory at a time, not four


def _opened(new: Opener, old: Opener, before: int, *, alike: bool) -> list[_Warm]:
    """Return new and old, both warm."""
    subjects: dict[bool, Subject] = {}
    for which in (True, False) if before % 2 else (False, True):
        subjects[which] = (new if which else old)()
    both = [_warm(subjects[which]) for which in (True, False)]
    longest = max(each.seconds for each in both)
    return [each._replace(often=round(longest / each.seconds)) for each in both] if alike else both


def _warm(subject: Subject) -> _Warm:
    run, feed = subject.session.run, subject.feed(subject.batch_sizes[0])
    times = [_timed(lambda: run(None, feed), 1) for _ in range(_RUNS)]
    return _Warm(lambda: run(None, feed), 1, float(np.median(times)))


def _run(both: list[_Warm], order: random.Random, found: Pairs) -> None:
    times = [0.0, 0.0]
    for which in order.sample((0, 1), 2):
        times[which] = _timed(both[which].call, both[which].often)
    found.new_s.append(times[0])
    found.old_s.append(times[1])


def _timed(call: Callable[[], object], often: int) -> float:
    start = time.perf_counter()
    for _ in range(often):
        call()
    return (time.perf_counter() - start) / often
