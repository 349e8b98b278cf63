"""Samples that arrive when they like: the highest rate of arrivals at which they are still answered in time.

Arrivals are a Poisson process that LoadGen draws beforehand. Latency counts from the moment at which a sample was due
and not from when the model was free for it: otherwise a slow answer would hide how long those behind it had to wait
(coordinated omission). One sample runs at a time, first come, first served.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tledge.measurement.load import latencies
from tledge.measurement.load.loadgen import LoadGen, Run
from tledge.measurement.subject import Subject
from tledge.schema import Rate, Server

# The bound on latency at p99 where none is given, in medians of one sample alone; waking a thread takes a part of 1 ms.
BOUND_IN_MEDIANS, LEAST_BOUND_MS = 5.0, 1.0
_ESTIMATE_SHARE, _TRIES, _MLPERF_TRIES = 0.1, 4, 3
_STEP_UP, _STEP_DOWN, _MLPERF_STEP = 1.1, 0.8, 0.95
# In shares of the rate at which the model would never pause: above the one, queues grow without end.
_BUSIEST, _IDLEST = 0.98, 0.05
# A queue that grows without end may be within a long bound for as long as a short run lasts.
_KEPT_UP = 0.9
_ARRIVALS, _HALVINGS = 20_000, 20

Tried = tuple[Rate, Run]


def server(
    subject: Subject,
    seconds: float,
    loadgen: LoadGen,
    latency_bound_ms: float | None = None,
    tell: Callable[[str], None] = lambda words: None,
) -> Server:
    """Find the highest rate at which p99 stays within `latency_bound_ms`, in about `seconds`.

    A rate holds when p99 does and nine tenths of what is due are done by the time that it is.
    Where to look is computed from the latencies of samples one after the other; up to four rates are tried from there.
    By MLPerf's rules the best of them is then measured again, and up to two more a twentieth lower if it is not valid.
    `tell` hears which rate is being tried.
    """
    queries, run = subject.queries(1, subject.batch_sizes[0]), subject.session.run
    alone = latencies.milliseconds(latencies.stream(run, queries, _ESTIMATE_SHARE * seconds))
    bound = latency_bound_ms or max(LEAST_BOUND_MS, BOUND_IN_MEDIANS * float(np.median(alone)))
    part = (1 - _ESTIMATE_SHARE) * seconds / _TRIES

    def answer(ids: Sequence[int], numbers: Sequence[int]) -> None:
        for feed in queries[numbers[0]]:
            run(None, feed)

    def at(rate: float, conforming: bool) -> Tried:
        tell(f"Measuring server at {rate:.3g} samples/s")
        found = loadgen.run(
            "Server",
            answer,
            samples=len(queries),
            seconds=part,
            conforming=conforming,
            label=f"-{rate:.4g}",
            server_target_qps=rate,
            server_target_latency_ns=round(1e6 * bound),
        )
        return _rate(rate, found.figures), found

    search = Search(highest_rate(alone, bound), _BUSIEST * 1000 / float(alone.mean()))
    tried = [*_searched(at, search)]
    shown = max(tried, key=lambda each: (each[0].held, each[0].queries_per_second * (1 if each[0].held else -1)))
    if loadgen.mlperf and shown[0].held:
        tried += _confirmed(at, shown[0].queries_per_second)
        shown = tried[-1]
    return _document(shown, tuple(rate for rate, _ in tried), bound, latency_bound_ms is not None)


def _searched(at: Callable[[float, bool], Tried], search: Search) -> Iterator[Tried]:
    for _ in range(_TRIES):
        found = at(search.rate, False)
        yield found
        search.learn(found[0].held)


def _confirmed(at: Callable[[float, bool], Tried], rate: float) -> Iterator[Tried]:
    for step in range(_MLPERF_TRIES):
        found = at(rate * _MLPERF_STEP**step, True)
        yield found
        if found[1].validity.valid:
            return


def _document(shown: Tried, tried: tuple[Rate, ...], bound_ms: float, bound_given: bool) -> Server:
    rate, run = shown
    return Server(
        queries_per_second=rate.queries_per_second if rate.held else None,
        completed_per_second=rate.completed_per_second,
        latency_bound_ms=bound_ms,
        bound_given=bound_given,
        queries=rate.queries,
        p50_ms=_ms(run.figures, "50.00_percentile"),
        p90_ms=_ms(run.figures, "90.00_percentile"),
        p99_ms=rate.p99_ms,
        max_ms=_ms(run.figures, "max"),
        p999_ms=_ms(run.figures, "99.90_percentile") if latencies.enough_for_p999(rate.queries) else None,
        tried=tried,
        validity=run.validity,
    )


class Search:
    """Narrows down the highest rate that holds, beginning at `rate`; `most` is where queues should grow without end."""

    def __init__(self, rate: float, most: float) -> None:
        self.rate, self._most = min(rate, most), most
        self._highest: float | None = None
        self._too_high: float | None = None

    def learn(self, held: bool) -> None:
        """Move `rate` on, now that it is known whether it held."""
        if held:
            self._highest = self.rate
        else:
            self._too_high = self.rate
        if self._highest is None:
            self.rate *= _STEP_DOWN
        elif self._too_high is None:
            self.rate = max((self._highest + self._most) / 2, _STEP_UP * self._highest)
        else:
            self.rate = (self._highest + self._too_high) / 2


def highest_rate(alone_ms: np.ndarray, bound_ms: float) -> float:
    """Return the rate per second at which a simulated queue's p99 meets `bound_ms`.

    `alone_ms` float [n] are latencies without any waiting, drawn anew for every arrival. The waiting time of each is
    Lindley's: what the one before waited and took, less the time between them, and never below nothing.
    """
    rng = np.random.default_rng(0)
    taken, pauses = rng.choice(alone_ms, _ARRIVALS), rng.exponential(1.0, _ARRIVALS)
    most = 1000 / float(alone_ms.mean())
    low, high = _IDLEST * most, _BUSIEST * most
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        steps = np.cumsum(np.append(0.0, taken[:-1] - 1000 / middle * pauses[1:]))
        waits = steps - np.minimum.accumulate(steps)
        low, high = (middle, high) if np.quantile(waits + taken, 0.99) <= bound_ms else (low, middle)
    return low


def _rate(rate: float, figures: dict[str, Any]) -> Rate:
    completed, scheduled = figures["result_completed_samples_per_sec"], figures["result_scheduled_samples_per_sec"]
    return Rate(
        queries_per_second=rate,
        completed_per_second=completed,
        p99_ms=_ms(figures, "99.00_percentile"),
        queries=figures["result_query_count"],
        held=figures["result_perf_constraints_met"] and completed >= _KEPT_UP * scheduled,
    )


def _ms(figures: dict[str, Any], name: str) -> float:
    return figures[f"result_{name}_latency_ns"] / 1e6
