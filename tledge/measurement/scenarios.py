"""How a model is used, and what is measured then. The names are MLPerf Inference's (Reddi et al. 2020).

Latency is the model alone: pixels at the model's size in memory → probabilities in memory. A model that takes pictures
of any size gets those of a camera's full frame, and resizing them is part of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from tledge import preprocess
from tledge.measurement.statistics import median_interval
from tledge.runtime import Predictor
from tledge.schema import Offline, SingleStream

BATCH_SIZES = (1, 2, 4, 8, 16, 32)
_FRAME = (1080, 1920, 3)
_WINDOW = 10
_STABLE = 0.03
_WARM_UP_S = 3.0


def noise(predictor: Predictor, batch: int, seed: int = 0) -> np.ndarray | list[np.ndarray]:
    """Return a batch of random pictures or vectors: what the numbers are does not change what a network costs.

    Where the graph takes pictures of any size, they are of 1080 × 1920 pixels.
    """
    rng = np.random.default_rng(seed)
    if predictor.input.any_size:
        return [rng.integers(0, 256, _FRAME, np.uint8)] * batch
    like = preprocess.empty(batch, predictor.manifest.preprocess)
    return rng.integers(0, 256, like.shape, np.uint8) if like.dtype == np.uint8 else rng.random(like.shape, like.dtype)


def warm_up(predictor: Predictor) -> int:
    """Run until the median of ten runs has settled within 3 %, or for three seconds; return the number of runs.

    Ten runs are made in any case, however long they take.
    """
    image, runs, before = noise(predictor, 1), 0, 0.0
    end = time.perf_counter() + _WARM_UP_S
    while time.perf_counter() < end:
        now = float(np.median([timed(lambda: predictor.run(image)) for _ in range(_WINDOW)]))
        runs += _WINDOW
        if abs(now - before) <= _STABLE * before:
            break
        before = now
    return runs


def single_stream(predictor: Predictor, seconds: float) -> SingleStream:
    """Run one sample after the other for `seconds`; no run is dropped from the figures."""
    image, times = noise(predictor, 1), []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        times.append(timed(lambda: predictor.run(image)))
    ms = 1000 * np.array(times)
    p50, p90, p99 = (float(q) for q in np.quantile(ms, [0.5, 0.9, 0.99]))
    low, high = median_interval(ms)
    return SingleStream(len(ms), p50, p90, p99, float(ms.min()), float(ms.max()), float(ms.mean()), low, high)


def offline(predictor: Predictor, seconds: float) -> Offline:
    """Run batches of each size for its share of `seconds`; the rate is samples over time, pauses included.

    Pictures of any size have no batches but those of one.
    """
    sizes = BATCH_SIZES[:1] if predictor.input.any_size else BATCH_SIZES
    rates = {str(size): _rate(predictor, size, seconds / len(sizes)) for size in sizes}
    best = max(rates, key=lambda size: rates[size])
    return Offline(rates[best], int(best), rates)


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that `call` takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _rate(predictor: Predictor, size: int, seconds: float) -> float:
    batch, done = noise(predictor, size), 0
    predictor.run(batch)  # the first run of a shape allocates
    start = time.perf_counter()
    while not done or time.perf_counter() - start < seconds:
        predictor.run(batch)
        done += size
    return done / (time.perf_counter() - start)
