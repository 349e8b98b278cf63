"""The gate: intervals and verdicts against simulated truth, real models in pairs, baselines and what does not fit."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_backbone, make_model

import tledge
from tledge import measurement
from tledge.errors import ModelError, TledgeError
from tledge.measurement import against_baseline, against_model, against_reference, open_subject
from tledge.measurement.judging import apart, intervals, workload
from tledge.measurement.judging.gate import judge
from tledge.measurement.judging.intervals import FEWEST, Interval
from tledge.measurement.judging.pairs import Opener, pairs
from tledge.schema import Reference, Verdict

MANY = 10**6  # openings, so that nothing is allowed for them


def latencies(rng: np.random.Generator, count: int, median: float) -> np.ndarray:
    """Draw latencies as they are: a floor, a long tail, and now and then a pause."""
    tail = median * 0.9 + median * 0.1 * np.exp(rng.normal(0, 1, count))
    return np.where(rng.random(count) < 0.03, tail * 5, tail)


def simulated(true_ratio: float, count: int = 800, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw the latencies of pairs on a machine that is three times as slow for a while, again and again."""
    rng = np.random.default_rng(seed)
    busy = np.repeat(rng.random(count // 20 + 1) < 0.5, 20)[:count]
    pace = np.exp(np.cumsum(rng.normal(0, 0.02, count))) * np.where(busy, 3, 1)
    return latencies(rng, count, true_ratio) * pace, latencies(rng, count, 1.0) * pace


def judged(true_ratio: float, limit: float, count: int = 800, seed: int = 0) -> Verdict:
    return judge(*simulated(true_ratio, count, seed), MANY, "old.onnx", limit, 1.5)


# ── Intervals ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("error", "count"), [(0.1, 60), (0.01, 200), (0.01, 800)])
def test_the_interval_holds_the_ratio_at_the_stated_rate(error, count):
    trials = 1500
    found = [intervals.of_medians(*simulated(1.1, count, seed), MANY, error) for seed in range(trials)]
    held = np.mean([each.low <= 1.1 <= each.high for each in found])
    # The draw's own median differs from the ratio by the noise of both, not more.
    assert held >= 1 - error - 3 * math.sqrt(error * (1 - error) / trials) - 0.005
    assert all(each.low <= each.ratio <= each.high for each in found)


def test_a_pace_that_changes_does_not_move_the_ratio():
    spread = np.std([np.log(intervals.of_medians(*simulated(1, 400, seed), MANY, 0.01).ratio) for seed in range(200)])
    plain = np.std([np.log(np.divide(*map(np.median, simulated(1, 400, seed)))) for seed in range(200)])
    assert spread < plain / 3


def test_the_bootstrap_of_a_median_is_what_drawing_gives():
    rng = np.random.default_rng(0)
    values = np.sort(rng.normal(0, 1, 41))
    drawn = np.sort(np.median(rng.choice(values, (40_000, 41)), axis=1))
    found = intervals.of_medians(np.exp(values), np.ones(41), MANY, 0.02)
    assert np.log(found.low) <= drawn[400] + 1e-9
    assert np.log(found.high) >= drawn[-400] - 1e-9
    # One rank further in would hold too little.
    inner = values[np.searchsorted(values, np.log(found.low) - 1e-6) + 2]
    assert inner > drawn[400]


def test_more_pairs_and_more_openings_say_more():
    widths = [np.ptp(intervals.of_medians(*simulated(1, count), MANY, 0.01)[1:]) for count in (30, 200, 3000)]
    assert widths == sorted(widths, reverse=True)
    new, old = np.ones(1000), np.ones(1000)
    once, often = (intervals.of_medians(new, old, openings, 0.01) for openings in (1, 16))
    assert math.log(once.high) == pytest.approx(2.5758 * intervals.OPENING_SD, rel=1e-3)
    assert math.log(often.high) == pytest.approx(math.log(once.high) / 4)
    assert once.low == pytest.approx(1 / once.high)


def test_the_interval_of_a_tail_holds_it_and_is_the_same_every_time():
    rng, held = np.random.default_rng(1), 0
    for seed in range(60):
        new, old = simulated(1.2, 1500, seed)
        found = intervals.of_quantiles(new, old, 0.99, MANY, 0.05)
        held += found.low <= 1.2 <= found.high
    assert held >= 50
    assert found == intervals.of_quantiles(new, old, 0.99, MANY, 0.05)
    slow = np.where(rng.random(3000) < 0.02, 9.0, 1.0)
    assert intervals.of_quantiles(slow, np.ones(3000), 0.99, MANY, 0.01).ratio == pytest.approx(9)
    assert intervals.of_medians(slow, np.ones(3000), MANY, 0.01).ratio == 1


def test_measurements_made_apart_add_their_doubts():
    now, then = Interval(1.1, 1.0, 1.21), Interval(1.0, 0.9, 1.1)
    found = intervals.between(now, then)
    assert found.ratio == pytest.approx(1.1)
    assert math.log(found.ratio / found.low) == pytest.approx(math.hypot(math.log(1.1), math.log(1.1)))
    wider = intervals.between(now, then, more=0.05)
    assert math.log(found.low / wider.low) == pytest.approx(0.05)


@pytest.mark.parametrize(("error", "z"), [(0.05, 1.959964), (0.01, 2.575829), (0.01 / 12, 3.341054)])
def test_normal_quantiles(error, z):
    assert intervals.normal_quantile(error) == pytest.approx(z, abs=1e-3)


# ── Verdicts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("true_ratio", "outcome"),
    [(0.6, "pass"), (1.0, "pass"), (1.05, "inconclusive"), (1.12, "regression"), (2.0, "regression")],
)
def test_the_verdict_is_the_truth_or_none(true_ratio, outcome):
    verdict = judged(true_ratio, 0.05, 3000)
    assert verdict.outcome == outcome
    assert verdict.low <= true_ratio <= verdict.high
    assert (verdict.against, verdict.pairs, verdict.seconds, verdict.max_regression) == ("old.onnx", 3000, 1.5, 0.05)
    assert f"{verdict.ratio:.3f}" in verdict.reason
    assert "1.050" in verdict.reason


def test_wrong_verdicts_are_as_rare_as_stated():
    same = [judged(1.0, 0.0, 200, seed).outcome for seed in range(1000)]
    assert same.count("regression") + same.count("pass") <= 10
    slower = [judged(1.06, 0.05, 200, seed).outcome for seed in range(1000)]
    assert slower.count("pass") <= 10


@pytest.mark.parametrize("p99", [False, True])
def test_few_pairs_are_no_evidence_however_clear(p99):
    def of(count: int) -> Verdict:
        return judge(np.full(count, 9.0), np.ones(count), 1, "old", 0.05, p99=p99)

    assert of(FEWEST - 1).outcome == "inconclusive"
    assert "too few" in of(FEWEST - 1).reason
    assert of(FEWEST).outcome == "regression"


def test_a_tail_is_judged_when_asked():
    rng = np.random.default_rng(0)
    old = latencies(rng, 4000, 1.0)
    new = np.where(rng.random(4000) < 0.05, 9.0, latencies(rng, 4000, 1.0))
    without, with_it = (judge(new, old, MANY, "old", 0.05, p99=p99) for p99 in (False, True))
    assert (without.outcome, without.p99) == ("pass", None)
    assert with_it.outcome == "regression"
    assert "99th percentile" in with_it.reason
    assert with_it.p99.low > 1.05
    same = judge(old, old, MANY, "old", 0.05, p99=True)
    assert (same.outcome, same.p99.ratio) == ("pass", 1)
    assert judge(old[:400], old[:400], MANY, "old", 0.05, p99=True).outcome == "inconclusive"


# ── Pairs of real models ─────────────────────────────────────────────────────────────────────────────────────────────


def opener(path: Path) -> Opener:
    return lambda: open_subject(path, threads=1)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return make_model(tmp_path / "small.onnx")


@pytest.fixture
def large(tmp_path: Path) -> Path:
    backbone = make_backbone(tmp_path / "graphs", name="large", size=256)
    return make_model(tmp_path / "large.onnx", backbone=backbone)


def test_a_much_larger_model_is_a_regression_and_a_much_smaller_one_passes(small, large):
    verdict = against_model(opener(large), opener(small), "small.onnx", 0.05, 20)
    assert verdict.outcome == "regression"
    assert verdict.ratio > 2
    assert (verdict.against, verdict.openings) == ("small.onnx", 1)
    assert verdict.pairs in (25, 50, 100)  # one look was enough, or a few
    assert against_model(opener(small), opener(large), "large.onnx", 0.05, 20).outcome == "pass"


def test_time_that_is_up_ends_the_pairs(small):
    verdict = against_model(opener(small), opener(small), "small.onnx", 0.05, 0.0)
    assert (verdict.pairs, verdict.outcome) == (1, "inconclusive")


def test_both_are_opened_anew_in_turn(small, monkeypatch):
    opened: list[str] = []

    def told(name: str) -> Opener:
        return lambda: (opened.append(name), open_subject(small, threads=1))[1]

    monkeypatch.setattr("tledge.measurement.judging.pairs._OPEN_S", 0.0)
    monkeypatch.setattr("tledge.measurement.judging.pairs._SHARE", 0)
    growing = pairs(told("new"), told("old"))
    counts = [(len(each), each.openings) for each, _ in zip(growing, range(3), strict=False)]
    assert counts == [(1, 1), (2, 2), (3, 3)]
    assert opened[:4] in (["old", "new", "new", "old"], ["new", "old", "old", "new"])


# ── Baselines ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_workload_is_the_one_that_baselines_know():
    content = workload.path().read_bytes()
    assert workload.digest() == hashlib.sha256(content).hexdigest()
    assert workload.digest() == "08238e761627bd03c94e9224ce97adecb46026951f36803487e178d4a951a36d"
    assert len(content) < 4000
    subject = open_subject(workload.path(), threads=1)
    (out,) = subject.run(subject.feed())
    assert np.isfinite(out).all()


def reference(small: Path, **changes: Any) -> Reference:
    found = against_reference(opener(small), opener(workload.path()), workload.digest(), 0.2)
    assert found.low <= found.ratio <= found.high
    assert found.pairs >= FEWEST
    return dataclasses.replace(found, **changes)


def test_a_baseline_tells_much_slower_from_much_faster(small):
    then = reference(small)

    def against(factor: float) -> Verdict:
        old = dataclasses.replace(then, ratio=then.ratio * factor, low=then.low * factor, high=then.high * factor)
        verdict, now = against_baseline(opener(small), opener(workload.path()), old, "old.json", 0.05, 5)
        assert now.workload == workload.digest()
        assert verdict.against == "old.json"
        return verdict

    assert against(0.01).outcome == "regression"
    assert against(100).outcome == "pass"


def test_another_pace_of_the_machine_is_doubt(small):
    then = reference(small)
    old = dataclasses.replace(then, ratio=then.ratio / 4, low=then.low / 4, high=then.high / 4, p50_ms=then.p50_ms / 50)
    verdict, _ = against_baseline(opener(small), opener(workload.path()), old, "old.json", 0.05, 0.5)
    assert verdict.outcome == "inconclusive"
    assert "not as it was" in verdict.reason


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The baseline of a model like `small`. Not to be changed."""
    path = tmp_path_factory.mktemp("baselines") / "base.json"
    model = make_model(path.with_name("small.onnx"))
    tledge.bench(model, seconds=0.2, threads=1, scenarios=["single_stream"], save=path)
    return path


@pytest.fixture
def saved(measured: Path, tmp_path: Path) -> Path:
    """A baseline that a test may change."""
    return Path(shutil.copy(measured, tmp_path))


def edited(path: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))
    return path


def bench(small: Path, against: Path, **options: Any) -> Verdict:
    return tledge.bench(
        small, seconds=0.2, scenarios=["single_stream"], against=against, **{"threads": 1, **options}
    ).verdict


@pytest.mark.parametrize(
    ("edit", "word"),
    [
        (lambda d: d["machine"].update(cpu="y"), "cpu"),
        (lambda d: d["machine"].update(cores=99), "cores"),
        (lambda d: d["machine"].update(instruction_sets=[]), "instruction_sets"),
        (lambda d: d.update(machine={}), "memory_bytes"),
        (lambda d: d.update(threads=2), "threads"),
        (lambda d: d.update(provider="cuda"), "provider"),
        (lambda d: d["reference"].update(workload="0" * 64), "fixed workload"),
    ],
    ids=["cpu", "cores", "sets", "none", "threads", "provider", "workload"],
)
def test_figures_from_elsewhere_do_not_compare(small, saved, edit, word):
    verdict = bench(small, edited(saved, edit))
    assert (verdict.outcome, verdict.ratio, verdict.low, verdict.high) == ("inconclusive", None, None, None)
    assert word in verdict.reason
    on_machine = word in ("cpu", "cores", "instruction_sets", "memory_bytes")
    assert ("--allow-other-machine" in verdict.reason) == on_machine
    assert (bench(small, saved, allow_other_machine=True).ratio is not None) == on_machine


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d.update(reference=None),
        lambda d: d["reference"].update(ratio=0),
        lambda d: d["reference"].update(low="1"),
        lambda d: d["reference"].update(low=9e9),
        lambda d: d["reference"].update(surprise=1),
        lambda d: d["reference"].pop("high"),
        lambda d: d.update(machine=[]),
        lambda d: d.update(reference=[1]),
        lambda d: d["reference"].update(p50_ms=0),
    ],
)
def test_a_baseline_without_figures_is_refused(small, saved, edit):
    with pytest.raises(TledgeError, match=r"base\.json holds no figures to compare with"):
        bench(small, edited(saved, edit))


def test_a_document_of_an_older_tledge_is_refused(small, saved):
    with pytest.raises(TledgeError, match="'reference' is missing"):
        bench(small, edited(saved, lambda d: d.pop("reference")))


def test_the_tail_is_not_stored(small, saved):
    with pytest.raises(TledgeError, match="in pairs"):
        bench(small, saved, p99=True)


# ── In a process of its own ──────────────────────────────────────────────────────────────────────────────────────────

SETTING = {"provider": "cpu", "threads": 2, "input_file": None}


def test_files_are_judged_in_a_fresh_process(small, large):
    verdict = apart.against_model(large, small, SETTING, 0.05, 20, p99=True)
    assert (verdict.outcome, verdict.against) == ("regression", str(small))
    assert verdict.ratio > 1.5
    assert verdict.p99.low <= verdict.p99.ratio <= verdict.p99.high
    then = apart.against_reference(small, SETTING, 0.2)
    assert then.workload == workload.digest()
    fast = dataclasses.replace(then, ratio=then.ratio / 99, low=then.low / 99, high=then.high / 99)
    verdict, now = apart.against_baseline(small, fast, "base.json", SETTING, 0.05, 5)
    assert (verdict.outcome, verdict.against) == ("regression", "base.json")
    assert now.pairs == verdict.pairs


def test_latencies_are_measured_in_a_fresh_process_in_the_order_of_the_files(small, large):
    slow, fast = measurement.median_latencies_ms([large, small], "cpu", 0.3)
    assert 0 < fast < slow


def test_what_fails_in_the_fresh_process_is_told_here(small, tmp_path):
    with pytest.raises(ModelError, match=r"gone\.onnx cannot be read"):
        measurement.median_latencies_ms([small, tmp_path / "gone.onnx"], "cpu", 0.1)
    with pytest.raises(ModelError, match=r"gone\.onnx cannot be read"):
        apart.against_model(small, tmp_path / "gone.onnx", SETTING, 0.05, 1)
    (tmp_path / "odd.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"odd\.onnx cannot be loaded"):
        apart.against_model(small, tmp_path / "odd.onnx", SETTING, 0.05, 1)


_SHARING = """
import os, sys
from tledge import engine
from tledge.measurement import open_subject
assert engine.share_threads(3)
before = len(os.listdir("/proc/self/task"))
subjects = [open_subject(sys.argv[1], threads=7) for _ in range(3)]
threads = len(os.listdir("/proc/self/task"))
for each in subjects:
    each.run(each.feed())
print(subjects[0].threads, threads - before)
"""


def test_sessions_that_share_threads_have_none_of_their_own(small):
    done = subprocess.run([sys.executable, "-c", _SHARING, str(small)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    threads, more = map(int, done.stdout.split())
    assert threads == 3
    assert more <= 3
    assert "ignored" not in done.stderr
