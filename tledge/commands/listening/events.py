"""Scores over time → events: a running mean, and for each class one threshold to begin at and a lower one to end at."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from tledge.schema import SoundEvent


class RunningMean:
    """The mean of the last `count` windows: of their scores, and of the times in their middle.

    That time is what the mean score stands for, so that smoothing moves no event.
    Source: Chen et al. 2014, Small-footprint keyword spotting using deep neural networks (posterior smoothing).
    """

    def __init__(self, count: int) -> None:
        self._last: deque[tuple[float, np.ndarray]] = deque(maxlen=count)

    def take(self, middle_s: float, scores: np.ndarray) -> tuple[float, np.ndarray]:
        """Return time and scores float64 [classes] with one window more."""
        self._last.append((middle_s, scores.astype(np.float64)))
        times, rows = zip(*self._last, strict=True)
        return float(np.mean(times)), np.mean(rows, axis=0)


class Hysteresis:
    """Events of classes: one begins when a score rises to `on` of its class, and ends when it falls below `off`.

    An event that the first scores show begins at 0. Those shorter than `min_seconds` are none.
    """

    def __init__(self, on: Mapping[str, float], off: Mapping[str, float], min_seconds: float) -> None:
        self._on, self._off, self._min_s = on, off, min_seconds
        self._going: dict[str, SoundEvent] = {}
        self._told: set[str] = set()
        self._is_first = True

    def take(self, at_s: float, scores: Mapping[str, float]) -> Iterator[SoundEvent]:
        """Yield the events that end by `scores`, those of `at_s`, and without an end those that begin."""
        for label in self._on:
            going, score = self._going.get(label), scores[label]
            if going and score < self._off[label]:
                yield from self._end(going, at_s)
            elif going or score >= self._on[label]:
                going = going or SoundEvent(label, 0.0 if self._is_first else at_s, None, score, at_s)
                going = replace(going, peak=score, peak_s=at_s) if score > going.peak else going
                self._going[label] = going
                yield from self._begin(going, at_s)
        self._is_first = False

    def finish(self, end_s: float) -> Iterator[SoundEvent]:
        """Yield the events that last until the stream ends."""
        for going in list(self._going.values()):
            yield from self._end(going, end_s)

    def _begin(self, going: SoundEvent, at_s: float) -> Iterator[SoundEvent]:
        if going.label not in self._told and at_s - going.start_s >= self._min_s:
            self._told.add(going.label)
            yield going

    def _end(self, going: SoundEvent, at_s: float) -> Iterator[SoundEvent]:
        del self._going[going.label]
        self._told.discard(going.label)
        if at_s - going.start_s >= self._min_s:
            yield replace(going, end_s=at_s)
