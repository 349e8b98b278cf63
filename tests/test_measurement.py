"""Measurement: intervals against simulated truth, verdicts against simulated latencies, figures that fit together."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_backbone, make_model

from tledge.errors import TledgeError
from tledge.measurement import (
    Subject,
    against_baseline,
    against_model,
    offline,
    open_subject,
    single_stream,
    warm_up,
)
from tledge.measurement.gate import judge
from tledge.measurement.statistics import FEWEST, median_interval
from tledge.schema import SingleStream

MACHINE = {"cpu": "x", "instruction_sets": ["avx2"], "cores": 2, "memory_bytes": 8, "governor": "performance"}
SETTING = {"provider": "cpu", "threads": 2}


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    return open_subject(make_model(tmp_path / "model.onnx"), threads=1)


def latencies(rng: np.random.Generator, count: int, median: float) -> np.ndarray:
    """Draw latencies as they are: a floor, a long tail, and now and then a pause."""
    tail = median * 0.9 + median * 0.1 * np.exp(rng.normal(0, 1, count))
    return np.where(rng.random(count) < 0.03, tail * 5, tail)


# ── Statistics ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("count", [FEWEST, 11, 30, 101, 1000])
def test_the_interval_holds_the_median_at_the_stated_rate(count):
    rng, trials = np.random.default_rng(count), 4000
    draws = np.exp(rng.normal(0, 1, (trials, count)))  # skewed, with a median of 1
    intervals = np.array([median_interval(row) for row in draws])
    held = ((intervals[:, 0] <= 1) & (intervals[:, 1] >= 1)).mean()
    # Three standard errors below 99 %; above it there are only the steps of small numbers.
    assert held >= 0.99 - 3 * math.sqrt(0.01 * 0.99 / trials)
    assert all(low <= np.median(row) <= high for row, (low, high) in zip(draws, intervals, strict=True))


def test_more_values_say_more():
    draws = np.random.default_rng(0).normal(10, 1, 10_000)
    widths = [high - low for low, high in (median_interval(draws[:count]) for count in (10, 100, 1000, 10_000))]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 2 * 2.58 * 1.2533 / 100 * 1.3


def test_the_interval_does_not_depend_on_the_order_and_keeps_the_values():
    draws = np.random.default_rng(0).normal(10, 1, 100)
    before = draws.copy()
    assert median_interval(draws) == median_interval(draws[::-1])
    np.testing.assert_array_equal(draws, before)


def test_few_values_give_their_range():
    assert median_interval(np.array([3.0])) == (3, 3)
    assert median_interval(np.array([3.0, 1.0, 2.0])) == (1, 3)


# ── Judging ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def simulated(true_ratio: float, pairs: int = 800, seed: int = 0) -> np.ndarray:
    """Ratios of pairs on a machine whose speed wanders, as one with other work does."""
    rng = np.random.default_rng(seed)
    weather = np.exp(np.cumsum(rng.normal(0, 0.02, pairs)))
    return latencies(rng, pairs, true_ratio) * weather / (latencies(rng, pairs, 1.0) * weather)


@pytest.mark.parametrize(
    ("true_ratio", "outcome"),
    [(0.6, "pass"), (1.0, "pass"), (1.05, "inconclusive"), (1.12, "regression"), (2.0, "regression")],
)
def test_the_verdict_is_the_truth_or_none(true_ratio, outcome):
    verdict = judge(simulated(true_ratio), "old.onnx", 0.05, 1.5)
    assert verdict.outcome == outcome
    assert verdict.low <= true_ratio <= verdict.high
    assert verdict.low <= verdict.ratio <= verdict.high
    assert (verdict.against, verdict.pairs, verdict.seconds, verdict.max_regression) == ("old.onnx", 800, 1.5, 0.05)
    assert f"{verdict.ratio:.3f}" in verdict.reason
    assert "1.050" in verdict.reason


def test_wrong_verdicts_are_as_rare_as_stated():
    same = [judge(simulated(1.0, 200, seed), "old", 0.0).outcome for seed in range(1000)]
    assert same.count("regression") + same.count("pass") <= 20
    slower = [judge(simulated(1.06, 200, seed), "old", 0.05).outcome for seed in range(1000)]
    assert slower.count("pass") <= 10


def test_few_pairs_are_no_evidence_however_clear():
    assert judge(np.full(FEWEST - 1, 9.0), "old", 0.05).outcome == "inconclusive"
    assert "too few" in judge(np.full(FEWEST - 1, 9.0), "old", 0.05).reason
    assert judge(np.full(FEWEST, 9.0), "old", 0.05).outcome == "regression"


def test_a_much_larger_model_is_a_regression_and_a_much_smaller_one_passes(tmp_path, subject):
    large = make_model(tmp_path / "large.onnx", backbone=make_backbone(tmp_path / "graphs", name="large", size=256))
    slow = open_subject(large, threads=1)
    verdict = against_model(slow, subject, 0.05, 20)
    assert verdict.outcome == "regression"
    assert verdict.ratio > 2
    assert verdict.against == str(subject.path)
    assert against_model(subject, slow, 0.05, 20).outcome == "pass"


def test_time_that_is_up_ends_the_pairs(subject):
    verdict = against_model(subject, subject, 0.05, 0.0)
    assert (verdict.pairs, verdict.outcome) == (1, "inconclusive")


# ── Baselines ────────────────────────────────────────────────────────────────────────────────────────────────────────


def figures(p50: float, spread: float = 0.01) -> SingleStream:
    return SingleStream(
        1000, p50, p50 * 1.1, p50 * 1.3, p50 * 0.9, p50 * 2, p50, p50 * (1 - spread), p50 * (1 + spread)
    )


def baseline(p50: float = 10.0, **changes: Any) -> dict[str, Any]:
    then = figures(p50)
    document = {"machine": dict(MACHINE), **SETTING, "scenarios": {"single_stream": {
        name: getattr(then, name) for name in ("p50_ms", "p50_low_ms", "p50_high_ms")
    }}}  # fmt: skip
    return {**document, **changes}


@pytest.mark.parametrize(
    ("p50", "outcome"), [(8, "pass"), (10, "pass"), (10.4, "inconclusive"), (11, "regression"), (20, "regression")]
)
def test_a_baseline_is_judged_by_the_intervals_of_both(p50, outcome):
    verdict = against_baseline(figures(p50), MACHINE, SETTING, baseline(), "old.json", 0.05)
    assert verdict.outcome == outcome
    assert verdict.ratio == pytest.approx(p50 / 10)
    assert verdict.low == pytest.approx(p50 * 0.99 / 10.1)
    assert verdict.high == pytest.approx(p50 * 1.01 / 9.9)


@pytest.mark.parametrize(
    "changes",
    [
        {"machine": {**MACHINE, "cpu": "y"}},
        {"machine": {**MACHINE, "cores": 4}},
        {"machine": {**MACHINE, "instruction_sets": []}},
        {"machine": {}},
        {"threads": 1},
        {"provider": "cuda"},
    ],
    ids=str,
)
def test_times_from_elsewhere_do_not_compare(changes):
    verdict = against_baseline(figures(99), MACHINE, SETTING, baseline(**changes), "old.json", 0.05)
    assert (verdict.outcome, verdict.ratio, verdict.low, verdict.high) == ("inconclusive", None, None, None)
    assert any(key in verdict.reason for key in ("cpu", "cores", "instruction_sets", "threads", "provider"))


@pytest.mark.parametrize("figure", [None, 0, "10", -1.0])
def test_a_baseline_without_latencies_is_refused(figure):
    spoilt = baseline()
    spoilt["scenarios"]["single_stream"]["p50_low_ms"] = figure
    with pytest.raises(TledgeError, match=r"old\.json holds no latencies"):
        against_baseline(figures(10), MACHINE, SETTING, spoilt, "old.json", 0.05)


# ── Scenarios ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_single_stream_figures_fit_together(subject):
    found = single_stream(subject, 0.1)
    assert found.samples > 10
    assert 0 < found.min_ms <= found.p50_ms <= found.p90_ms <= found.p99_ms <= found.max_ms
    assert found.min_ms <= found.mean_ms <= found.max_ms
    assert found.min_ms <= found.p50_low_ms <= found.p50_ms <= found.p50_high_ms <= found.max_ms
    assert found.samples * found.mean_ms <= 1000 * 0.2 + found.max_ms


def test_no_time_still_is_one_run(subject):
    found = single_stream(subject, 0.0)
    assert found.samples == 1
    assert found.min_ms == found.p50_ms == found.max_ms


def test_offline_tells_the_best_of_every_batch_size(subject):
    found = offline(subject, 0.1)
    assert found.samples_per_second == max(found.by_batch_size.values())
    assert found.by_batch_size[str(found.batch_size)] == found.samples_per_second
    assert list(map(int, found.by_batch_size)) == [1, 2, 4, 8, 16, 32]
    assert min(found.by_batch_size.values()) > 0


def test_warming_up_runs_the_model_and_tells_how_often(subject):
    runs = 0

    class Counted:
        def run(self, names: None, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
            nonlocal runs
            runs += 1
            assert feed["image"].shape == (1, 16, 16, 3)
            return subject.session.run(names, feed)

    counted = replace(subject, session=Counted())
    assert warm_up(counted) == runs >= 20
