"""The latency of several models, measured in turn, so that a machine that changes its pace changes it for all."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from tledge.measurement.scenarios import noise, timed, warm_up
from tledge.runtime import Predictor

_ROUNDS = 6


def median_latencies_ms(predictors: Sequence[Predictor], seconds: float) -> list[float]:
    """Return the median latency of one sample of each of `predictors`, in ms, after about `seconds` for each.

    Each runs for a sixth of its time, then the next: alone in the caches of the processor, as on a box. The order is
    drawn anew in every round. What is returned is the median of its six medians.
    """
    order, share = random.Random(0), seconds / _ROUNDS
    samples = [noise(predictor, 1) for predictor in predictors]
    for predictor in predictors:
        warm_up(predictor)
    medians: list[list[float]] = [[] for _ in predictors]
    for _ in range(_ROUNDS):
        for which in order.sample(range(len(predictors)), len(predictors)):
            medians[which].append(_median_ms(predictors[which], samples[which], share))
    return [float(np.median(each)) for each in medians]


def _median_ms(predictor: Predictor, sample: np.ndarray | list[np.ndarray], seconds: float) -> float:
    times: list[float] = []
    while not times or sum(times) < seconds:
        times.append(timed(lambda: predictor.run(sample)))
    return 1000 * float(np.median(times))
