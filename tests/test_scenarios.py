"""Scenarios: figures that fit together, latencies against known ones, LoadGen's verdicts, time that is kept."""

from __future__ import annotations

import itertools
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_model

from tledge.errors import MissingExtra, ModelError
from tledge.measurement import LoadGen, Subject, multi_stream, offline, open_subject, single_stream, warm_up
from tledge.measurement import server as run_server
from tledge.measurement.load import latencies
from tledge.measurement.load.server import Search, highest_rate

needs_loadgen = pytest.mark.skipif(platform.machine() != "x86_64", reason="LoadGen has no wheel for this processor")
DRIVEN = [pytest.param(False, id="plain"), pytest.param(True, id="LoadGen", marks=needs_loadgen)]


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    return open_subject(make_model(tmp_path / "model.onnx"), threads=1)


class Paced:
    """A session that takes `seconds(batch)` for a run by `sleep`, and remembers the batch sizes it was given."""

    def __init__(self, seconds: Callable[[int], float], most: int, sleep: Callable[[float], None]) -> None:
        self._seconds, self._most, self._sleep = seconds, most, sleep
        self.batches: list[int] = []

    def run(self, names: None, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        batch = len(next(iter(feed.values())))
        if batch > self._most:
            raise RuntimeError("Reshape cannot\nbe done")
        self.batches.append(batch)
        self._sleep(self._seconds(batch))
        return []


def paced(
    subject: Subject,
    seconds: Callable[[int], float] | float,
    most: int = 10**9,
    sleep: Callable[[float], None] = time.sleep,
) -> Subject:
    return replace(subject, session=Paced(seconds if callable(seconds) else lambda _: seconds, most, sleep))


@pytest.fixture
def sleep(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sleep on a clock that nothing but this moves, and that all of measurement reads."""
    now = [1000.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time, "perf_counter_ns", lambda: round(1e9 * now[0]))

    def pass_by(seconds: float) -> None:
        now[0] += seconds

    return pass_by


def loadgen(driven: bool, **options: Any) -> LoadGen | None:
    return LoadGen(**options) if driven else None


# ── Latencies kept one by one ────────────────────────────────────────────────────────────────────────────────────────


def marks(ms: Sequence[float], starts_ms: Sequence[float] | None = None) -> latencies.Marks:
    begins = starts_ms if starts_ms is not None else np.append(0, np.cumsum(ms)[:-1])
    spans = [(round(1e6 * at), round(1e6 * (at + each))) for at, each in zip(begins, ms, strict=True)]
    return latencies.Marks("q", itertools.chain.from_iterable(spans))


def test_figures_are_those_of_all_latencies():
    ms = np.random.default_rng(0).gamma(2, 2, 20_000).round(6) + 0.001
    found = latencies.figures(marks(ms))
    for name, share in {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "p999_ms": 0.999}.items():
        assert found[name] == pytest.approx(np.quantile(ms, share))
    assert (found["min_ms"], found["max_ms"]) == (pytest.approx(ms.min()), pytest.approx(ms.max()))
    assert found["mean_ms"] == pytest.approx(ms.mean())


def test_one_in_a_thousand_needs_ten_of_them():
    assert latencies.figures(marks([1.0] * 9_999))["p999_ms"] is None
    assert latencies.figures(marks([1.0] * 10_000))["p999_ms"] == 1.0


@pytest.mark.parametrize("ms", [[3.0], [2.0, 2.0, 2.0], [1.0, 1000.0], list(np.linspace(0.01, 9, 777))], ids=len)
def test_the_histogram_holds_every_latency(ms):
    found = latencies.histogram(np.array(ms))
    assert len(found.edges_ms) == len(found.counts) + 1
    assert sum(found.counts) == len(ms)
    assert (found.edges_ms[0], found.edges_ms[-1]) == (min(ms), max(ms))
    assert list(found.edges_ms) == sorted(found.edges_ms)
    whole = np.histogram(ms, found.edges_ms)[0] if len(found.counts) > 1 else [len(ms)]
    assert list(found.counts) == list(whole)


def test_the_timeline_shows_when_it_was_slow():
    ms = np.full(5000, 2.0)
    ms[3000:3500] = 10.0
    found = latencies.timeline(np.append(0, np.cumsum(ms)[:-1]) / 1000, ms)
    assert len(found) == 100
    slow = [window.start_s for window in found if window.p50_ms == 10.0]
    assert 6.0 - 0.15 <= min(slow) <= max(slow) <= 11.0
    assert len(slow) == pytest.approx(5.0 / 14.0 * 100, abs=1.5)
    assert {window.p50_ms for window in found} == {2.0, 10.0}


def test_windows_in_which_nothing_began_are_left_out():
    starts = np.append(np.arange(50) / 1000, 10 + np.arange(50) / 1000)
    found = latencies.timeline(starts, np.ones(100))
    assert [round(window.start_s) for window in found] == [0, 9]


def test_a_single_latency_has_a_timeline():
    assert len(latencies.timeline(np.zeros(1), np.ones(1))) == 1


# ── Warm-up ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("seconds", "runs"), [(20e-6, 7500), (0.005, 30), (0.02, 9), (0.06, 3), (0.8, 3)])
def test_a_steady_model_is_warm_after_three_windows_or_runs(subject, sleep, seconds, runs):
    steady = paced(subject, seconds, sleep=sleep)
    found = warm_up(steady)
    assert found.settled
    assert found.runs == len(steady.session.batches) == pytest.approx(runs, abs=3)
    assert found.seconds == pytest.approx(found.runs * seconds)
    assert set(steady.session.batches) == {1}


def test_a_model_that_does_not_settle_is_told_and_ended(subject, sleep):
    count = itertools.count()
    found = warm_up(paced(subject, lambda _: 0.06 * (1 + next(count) % 2), sleep=sleep))
    assert not found.settled
    assert 3 <= found.seconds <= 3.12


def test_a_model_that_becomes_faster_is_waited_for(subject, sleep):
    count = itertools.count()
    found = warm_up(paced(subject, lambda _: 0.01 if next(count) < 100 else 0.005, sleep=sleep))
    assert found.runs < 100  # steady it was, and what comes later nobody can know
    count = itertools.count()
    falling = warm_up(paced(subject, lambda _: max(0.005, 0.02 - 0.0002 * next(count)), sleep=sleep))
    assert falling.settled
    assert falling.runs > 75


def test_a_very_slow_model_runs_twice(subject, sleep):
    found = warm_up(paced(subject, 5.0, sleep=sleep))
    assert (found.runs, found.settled) == (2, False)


# ── One after the other ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("driven", DRIVEN)
def test_single_stream_figures_fit_together(subject, driven):
    found = single_stream(subject, 0.3, loadgen(driven))
    assert found.samples > 10
    assert 0 < found.min_ms <= found.p50_ms <= found.p90_ms <= found.p99_ms <= found.max_ms
    assert found.min_ms <= found.mean_ms <= found.max_ms
    assert found.min_ms <= found.p50_low_ms <= found.p50_ms <= found.p50_high_ms <= found.max_ms
    assert found.samples * found.mean_ms <= 1000 * 0.4 + found.max_ms
    assert sum(found.histogram.counts) == found.samples
    assert found.histogram.edges_ms[0] == found.min_ms
    assert found.timeline[0].start_s == 0
    assert found.validity.valid is (True if driven else None)
    assert ("LoadGen" in found.validity.reason) is not driven


@pytest.mark.parametrize("driven", DRIVEN)
def test_no_time_still_is_one_run(subject, driven):
    found = single_stream(subject, 0.0, loadgen(driven))
    assert found.samples >= 1
    if not driven:
        assert found.min_ms == found.p50_ms == found.max_ms


@pytest.mark.parametrize("driven", DRIVEN)
def test_a_query_of_several_samples_is_one_run(subject, driven):
    slow = paced(subject, lambda batch: 0.001 * batch)
    found = multi_stream(slow, 0.3, loadgen(driven), samples_per_query=5)
    assert set(slow.session.batches) == {5}
    assert (found.samples_per_query, found.batch_size) == (5, 5)
    assert found.min_ms >= 5
    assert found.queries >= 1


@pytest.mark.parametrize("driven", DRIVEN)
def test_a_graph_that_takes_one_at_a_time_gets_the_samples_of_a_query_in_turn(subject, driven):
    slow = paced(subject, 0.002, most=1)
    found = multi_stream(slow, 0.2, loadgen(driven), samples_per_query=4)
    assert found.batch_size == 1
    assert found.min_ms >= 8
    assert len(slow.session.batches) % 4 == 0


@needs_loadgen
def test_too_few_queries_are_not_valid_and_it_says_how_many_are_missing(subject):
    found = multi_stream(paced(subject, 0.01), 0.3, LoadGen())
    assert found.validity.valid is False
    assert "662 queries" in found.validity.reason  # MLPerf's number for a 99th percentile
    assert "\n" not in found.validity.reason


# ── Offline ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_offline_measures_the_best_of_every_batch_size_once_more(subject, sleep):
    # A run costs 4 ms, every sample up to the 8th one more, and every one behind it three.
    def costs(batch: int) -> float:
        return 0.004 + 0.001 * max(batch, 3 * batch - 16)

    found = offline(paced(subject, costs, sleep=sleep), 4.0)
    assert list(map(int, found.by_batch_size)) == [1, 2, 4, 8, 16, 32]
    assert found.by_batch_size == {str(size): pytest.approx(size / costs(size)) for size in (1, 2, 4, 8, 16, 32)}
    assert (found.batch_size, found.samples_per_second) == (8, pytest.approx(8 / 0.012))
    assert found.samples == pytest.approx(2.0 * 8 / 0.012, abs=8)
    assert not found.left_out


@needs_loadgen
def test_offline_is_one_query_of_loadgens(subject):
    slow = paced(subject, lambda batch: 0.004 + 0.0001 * batch)
    found = offline(slow, 0.6, LoadGen())
    assert found.samples % found.batch_size == 0
    assert 0 < found.samples_per_second <= found.batch_size / (0.004 + 0.0001 * found.batch_size)
    assert slow.session.batches[-found.samples // found.batch_size :] == [found.batch_size] * (
        found.samples // found.batch_size
    )
    assert found.validity.loadgen


def test_batches_that_would_take_too_long_are_left_out(subject, sleep):
    begin = time.perf_counter()
    found = offline(paced(subject, lambda batch: 0.05 * batch, sleep=sleep), 1.0)
    assert time.perf_counter() - begin <= 1.3
    assert list(found.by_batch_size) == ["1", "2"]
    assert found.left_out == "batches of 4 and more do not fit into the time"


def test_batches_that_do_not_run_are_left_out(subject):
    found = offline(paced(subject, 0.001, most=3), 0.2)
    assert list(found.by_batch_size) == ["1", "2"]
    assert found.left_out == "batches of 4 do not run: Reshape cannot"


def test_a_graph_that_does_not_run_at_all_is_an_error(subject):
    with pytest.raises(ModelError, match="does not run: Reshape cannot"):
        offline(paced(subject, 0.001, most=0), 0.2)


# ── Server ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@needs_loadgen
def test_server_finds_a_rate_that_holds(subject):
    found = run_server(paced(subject, 0.005), 2.0, LoadGen(), latency_bound_ms=500.0)
    # At 5 ms each no more than 200 a second are done, also where a run is too short for the queue to reach the bound.
    assert 5 < found.queries_per_second < 250
    assert found.completed_per_second < 200
    assert found.p99_ms <= 500.0
    assert 5 <= found.p50_ms <= found.p90_ms <= found.p99_ms <= found.max_ms
    assert found.queries_per_second == max(each.queries_per_second for each in found.tried if each.held)
    assert found.bound_given
    assert found.validity.loadgen


@needs_loadgen
def test_a_bound_below_one_run_holds_at_no_rate(subject):
    found = run_server(paced(subject, 0.01), 0.5, LoadGen(), latency_bound_ms=1.0)
    assert found.queries_per_second is None
    assert found.p99_ms > 1.0
    assert found.validity.valid is False
    assert "above its bound" in found.validity.reason
    assert not any(each.held for each in found.tried)


@needs_loadgen
def test_without_a_bound_it_is_a_multiple_of_the_median(subject):
    found = run_server(paced(subject, 0.004), 1.0, LoadGen())
    assert not found.bound_given
    assert found.latency_bound_ms >= 5 * 4


@needs_loadgen
def test_waiting_behind_a_slow_answer_counts(subject):
    """One run of a quarter of a second holds up all that arrive meanwhile: their latencies must say so."""
    count, slow = itertools.count(), 60
    halting = paced(subject, lambda _: 0.25 if next(count) == slow else 0.0005)

    def answer(ids: Sequence[int], numbers: Sequence[int]) -> None:
        halting.run(halting.feed())

    found = LoadGen().run(
        "Server", answer, samples=1, seconds=1.0, server_target_qps=200.0, server_target_latency_ns=10**7
    )
    # Some 50 of 200 arrive during the pause. A stopwatch around each run would see one slow run of 200.
    assert found.figures["result_overlatency_query_count"] > 25
    assert found.figures["result_90.00_percentile_latency_ns"] > 50e6


def test_the_rate_to_begin_with_is_that_of_queueing_theory():
    # A wait longer than t has the probability ρ·e^(-μ(1-ρ)t) where service is exponential (M/M/1), so that latency has
    # its p99 at ln(100) / (μ - λ).
    served = np.random.default_rng(1).exponential(10.0, 50_000)
    bound = 100.0
    theory = 1000 * (1 / 10.0 - np.log(100) / bound)
    assert highest_rate(served, bound) == pytest.approx(theory, rel=0.1)


def test_a_rate_is_proposed_for_any_bound():
    alone = np.full(100, 10.0)
    rates = [highest_rate(alone, bound) for bound in (0.001, 11, 20, 50, 1e9)]
    assert rates == sorted(rates)
    assert 0 < rates[0] < rates[-1] < 100


def test_the_search_closes_in_on_the_limit():
    search, limit, tried = Search(40.0, 100.0), 63.0, []
    for _ in range(12):
        tried.append(search.rate)
        search.learn(search.rate <= limit)
    assert max(rate for rate in tried if rate <= limit) == pytest.approx(limit, rel=0.02)
    down = Search(90.0, 100.0)
    for _ in range(12):
        down.learn(down.rate <= 5.0)
    assert down.rate < 10


# ── LoadGen itself ───────────────────────────────────────────────────────────────────────────────────────────────────

SETTINGS = {
    "SingleStream": {},
    "MultiStream": {"multi_stream_samples_per_query": 4},
    "Server": {"server_target_qps": 200.0},
    "Offline": {"min_query_count": 50},
}


@needs_loadgen
@pytest.mark.parametrize("scenario", SETTINGS)
def test_what_fails_during_a_run_ends_it_and_is_raised(scenario):
    def answer(ids: Sequence[int], numbers: Sequence[int]) -> None:
        raise ModelError("It is broken.")

    begin = time.perf_counter()
    with pytest.raises(ModelError, match="It is broken"):
        LoadGen().run(scenario, answer, samples=1, seconds=30, **SETTINGS[scenario])
    assert time.perf_counter() - begin < 10
    assert LoadGen().run("SingleStream", lambda *_: time.sleep(0.001), samples=1, seconds=1).validity.valid


@needs_loadgen
@pytest.mark.parametrize("scenario", SETTINGS)
def test_ctrl_c_ends_a_run_at_once(scenario):
    # A shell has its background jobs ignore the signal, and a test run may be one.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    driver = LoadGen()

    def answer(ids: Sequence[int], numbers: Sequence[int]) -> None:
        for _ in ids:
            if not driver.interrupted:
                time.sleep(0.1)

    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    begin = time.perf_counter()
    try:
        with pytest.raises(KeyboardInterrupt):
            driver.run(scenario, answer, samples=1, seconds=30, **SETTINGS[scenario])
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.perf_counter() - begin < 10


@needs_loadgen
def test_rules_are_those_that_loadgen_knows(tmp_path):
    """A run by MLPerf's rules takes ten minutes; that they were asked for is told by what is not met after less."""
    logs = tmp_path / "logs"
    driver = LoadGen(mlperf=True, logs=logs)
    found = driver.run("SingleStream", lambda *_: None, samples=1, seconds=0.1, max_query_count=100)
    assert found.figures["effective_min_duration_ms"] == 600_000
    assert found.figures["effective_min_query_count"] == 100
    assert found.validity.mlperf
    assert found.validity.valid is False
    assert "less than 600 s" in found.validity.reason
    assert (logs / "SingleStream" / "mlperf_log_summary.txt").read_text().startswith("=====")
    search = driver.run("SingleStream", lambda *_: None, samples=1, seconds=0.05, conforming=False, label="-search")
    assert not search.validity.mlperf
    assert [place.name for place in logs.iterdir()] == ["SingleStream"]


def test_without_loadgen_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mlperf_loadgen", None)
    assert not LoadGen.installed()
    with pytest.raises(
        MissingExtra, match=r"LoadGen is not installed\. Install it with: pip install 'tledge\[bench\]'"
    ):
        LoadGen()
