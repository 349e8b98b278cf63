"""How a model is used, and what is measured then. The names and their meaning are MLPerf Inference's.

Each scenario is driven by LoadGen where one is handed in, else by a plain loop, of whose validity nobody judges.
Source: Reddi et al., MLPerf Inference Benchmark, 2020 (arXiv 1911.02549).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np

from tledge.errors import ModelError
from tledge.measurement.load import latencies
from tledge.measurement.load.loadgen import MLPERF_S, LoadGen
from tledge.measurement.subject import Subject
from tledge.schema import MultiStream, Offline, SingleStream, Validity

SAMPLES_PER_QUERY = 8
_PLAIN = Validity(None, "measured by tledge's own loop, without MLCommons' LoadGen: pip install 'tledge[bench]'")
# LoadGen makes its queries beforehand, for as long as they are expected to take: better too many than too few.
_SHORTEST_SHARE = 0.5
_MARGIN = 1.2  # too few samples would be over too soon to be valid
_MLPERF_SAMPLES = 24_576  # the least that MLPerf's offline scenario takes
_ESTIMATE_SHARE = 0.1
_EXPECTED = {"SingleStream": "single_stream_expected", "MultiStream": "multi_stream_expected"}


def single_stream(subject: Subject, seconds: float, loadgen: LoadGen | None = None) -> SingleStream:
    """Run one sample after the other for `seconds`; no run is dropped from the figures.

    A graph of a fixed batch runs whole batches.
    """
    marks, validity = stream(subject, "SingleStream", 1, _least(subject), seconds, loadgen)
    return SingleStream(samples=len(marks) // 2, validity=validity, **latencies.figures(marks))


def multi_stream(
    subject: Subject, seconds: float, loadgen: LoadGen | None = None, samples_per_query: int = SAMPLES_PER_QUERY
) -> MultiStream:
    """Run one query of `samples_per_query` samples after the other for `seconds`.

    They go through the graph at once where it takes as many, else one after the other, in its own batches.
    """
    batch = _least(subject)
    if subject.samples.batch is None and not subject.refuses(samples_per_query):
        batch = samples_per_query
    marks, validity = stream(subject, "MultiStream", samples_per_query, batch, seconds, loadgen)
    return MultiStream(
        samples_per_query=samples_per_query,
        batch_size=batch,
        queries=len(marks) // 2,
        validity=validity,
        **latencies.figures(marks),
    )


def offline(subject: Subject, seconds: float, loadgen: LoadGen | None = None) -> Offline:
    """Try batches of each size for half of `seconds`, then measure the best once more for the other half.

    The best of several figures is one that had luck; the second figure has none. A rate is samples over time, pauses
    included. Sizes whose first runs would not fit into their time are left out. Raises ModelError when none runs.
    """
    rates, left_out = _rates(subject, seconds / 2)
    best = max(rates, key=lambda size: rates[size])
    by_size = {str(size): rate for size, rate in rates.items()}
    if loadgen:
        count, rate, validity = _offline_load(subject, best, rates[best], seconds / 2, loadgen)
    else:
        (count, rate), validity = _rate(subject, best, seconds / 2), _PLAIN
    return Offline(rate, best, by_size, count, left_out, validity)


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that `call` takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _least(subject: Subject) -> int:
    return subject.batch_sizes[0]


def stream(
    subject: Subject, scenario: str, size: int, batch: int, seconds: float, loadgen: LoadGen | None
) -> tuple[latencies.Marks, Validity]:
    """Run queries of `size` samples one after the other, `batch` samples at a time; return when each began and ended.

    `scenario` is LoadGen's word, SingleStream or MultiStream.
    """
    queries, run = subject.queries(size, batch), subject.session.run
    if not loadgen:
        return latencies.stream(run, queries, seconds), _PLAIN
    expected = np.median(latencies.milliseconds(latencies.stream(run, queries, _ESTIMATE_SHARE * seconds)))
    marks, clock = latencies.Marks("q"), time.perf_counter_ns
    note = marks.append

    def answer(ids: list[int], numbers: list[int]) -> None:
        query = queries[numbers[0]]
        start = clock()
        for feed in query:
            run(None, feed)
        now = clock()
        note(start)
        note(now)

    settings = {f"{_EXPECTED[scenario]}_latency_ns": max(1, int(1e6 * _SHORTEST_SHARE * expected))}
    if scenario == "MultiStream":
        settings["multi_stream_samples_per_query"] = size
    found = loadgen.run(scenario, answer, samples=len(queries), seconds=(1 - _ESTIMATE_SHARE) * seconds, **settings)
    return marks, found.validity


def _rates(subject: Subject, seconds: float) -> tuple[dict[int, float], str]:
    """Return samples per second by batch size, and why larger batches are not among them."""
    sizes, rates = subject.batch_sizes, {}
    end = time.perf_counter() + seconds
    for place, size in enumerate(sizes):
        left = end - time.perf_counter()
        # The first run of a shape allocates and is not counted, so that there are two at least.
        if rates and 2 * size / rates[sizes[place - 1]] > left:
            return rates, f"batches of {size} and more do not fit into the time"
        if reason := subject.refuses(size):
            if not rates:
                raise ModelError(f"{subject.path} does not run: {reason}.", "Give samples with '--input FILE.npz'.")
            return rates, f"batches of {size} do not run: {reason}"
        rates[size] = _rate(subject, size, left / (len(sizes) - place))[1]
    return rates, ""


def _rate(subject: Subject, size: int, seconds: float) -> tuple[int, float]:
    """Return how many samples ran in about `seconds`, in batches of `size`, and the rate per second."""
    marks = latencies.stream(subject.session.run, subject.queries(size, size), seconds)
    count = size * len(marks) // 2
    return count, count / ((marks[-1] - marks[0]) / 1e9)


def _offline_load(
    subject: Subject, size: int, rate: float, seconds: float, loadgen: LoadGen
) -> tuple[int, float, Validity]:
    """Return samples, samples per second and validity of one query of LoadGen's that holds all samples."""
    feeds, run = [query[0] for query in subject.queries(size, size)], subject.session.run

    def answer(ids: list[int], numbers: list[int]) -> None:
        for number in range(len(ids) // size):
            if loadgen.interrupted:
                return
            run(None, feeds[number % len(feeds)])

    if loadgen.mlperf:
        wanted = max(_MARGIN * rate * MLPERF_S, _MLPERF_SAMPLES)
    else:
        wanted = _MARGIN * rate * seconds
    count = size * math.ceil(wanted / size)
    found = loadgen.run(
        "Offline", answer, samples=len(feeds), seconds=seconds, min_query_count=count, offline_expected_qps=0.0
    )
    return count, found.figures["result_samples_per_second"], found.validity
