"""Measurement: intervals against simulated truth, verdicts against simulated latencies, figures that fit together."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from conftest import make_model

from tledge.measurement import Subject, open_subject
from tledge.measurement.statistics import FEWEST, median_interval


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
