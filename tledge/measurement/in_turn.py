"""The latency of several models, measured in turn, so that a machine that changes its pace changes it for all."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tledge.measurement.feeding.inputs import Feed
from tledge.measurement.load.scenarios import timed
from tledge.measurement.load.warming import warm_up
from tledge.measurement.subject import Subject, open_subject

_ROUNDS = 6
# Threads that spin after a run, waiting for the next, would take the cores from the other models.
_TUNE = {"session.force_spinning_stop": "1"}


def median_latencies_ms(models: Sequence[Path], provider: str, seconds: float) -> list[float]:
    """Return the median latency of one sample of each of the files `models` on `provider`, in ms.

    Each runs for about `seconds`, a sixth of it at a time, then the next: alone in the caches of the processor, as on a
    box. The order is drawn anew in every round. What is returned is the median of its six medians. Raises what
    `open_subject` does.
    """
    order, share = random.Random(0), seconds / _ROUNDS
    subjects = [open_subject(model, provider=provider, tune=_TUNE) for model in models]
    feeds = [subject.feed(subject.batch_sizes[0]) for subject in subjects]
    for subject in subjects:
        warm_up(subject)
    medians: list[list[float]] = [[] for _ in subjects]
    for _ in range(_ROUNDS):
        for which in order.sample(range(len(subjects)), len(subjects)):
            medians[which].append(_median_ms(subjects[which], feeds[which], share))
    return [float(np.median(each)) for each in medians]


def _median_ms(subject: Subject, feed: Feed, seconds: float) -> float:
    times: list[float] = []
    while not times or sum(times) < seconds:
        times.append(timed(lambda: subject.run(feed)))
    return 1000 * float(np.median(times))
