"""Has the model become slower? Two models are judged in interleaved pairs, a stored baseline only on its own machine.

Each pair gives one ratio of two latencies measured in the same breath: noise that lasts longer than a pair hits both
alike, and cancels. The median of the ratios is judged by its 99 % interval.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from tledge.errors import TledgeError
from tledge.measurement.scenarios import timed, warm_up
from tledge.measurement.statistics import FEWEST, median_interval
from tledge.measurement.subject import Subject
from tledge.schema import SingleStream, Verdict

_FIRST_LOOK = 100
_SAME_MACHINE = ("cpu", "instruction_sets", "cores", "memory_bytes")
_MEDIAN = ("p50_ms", "p50_low_ms", "p50_high_ms")


def against_model(new: Subject, old: Subject, max_regression: float, seconds: float) -> Verdict:
    """Run both in pairs, in random order within each, until the interval of the ratio clears 1 + `max_regression`.

    `seconds` bounds the work, but for the pair under way; no answer by then is inconclusive. The interval is looked at
    after 100 pairs and each time their number has doubled: many looks would find by chance what is not there.
    """
    warm_up(new)
    warm_up(old)
    start, look, ratios = time.perf_counter(), _FIRST_LOOK, []
    for ratio in _pairs(new, old):
        ratios.append(ratio)
        spent = time.perf_counter() - start
        if spent < seconds and len(ratios) < look:
            continue
        verdict = judge(np.array(ratios), str(old.path), max_regression, spent)
        if spent >= seconds or verdict.outcome != "inconclusive":
            break
        look *= 2
    return verdict


def judge(ratios: np.ndarray, against: str, max_regression: float, seconds: float = 0.0) -> Verdict:
    """Judge `ratios` float [pairs], the new latency over the old one of each pair, that took `seconds` to measure."""
    ratio, (low, high) = float(np.median(ratios)), median_interval(ratios)
    if len(ratios) < FEWEST:
        outcome = "inconclusive"
        reason = f"{len(ratios)} pairs of runs are too few to judge by, {FEWEST} are needed: measure longer."
    else:
        outcome = _outcome(low, high, max_regression)
        reason = _reason(outcome, ratio, low, high, max_regression)
    return Verdict(outcome, against, ratio, low, high, max_regression, len(ratios), seconds, reason)


def against_baseline(
    now: SingleStream,
    machine: dict[str, Any],
    setting: dict[str, Any],
    baseline: dict[str, Any],
    name: str,
    max_regression: float,
) -> Verdict:
    """Compare with the `baseline` document of an earlier bench on this machine and in this `setting`.

    Anything else is inconclusive. Raises TledgeError when the document holds no figures of single_stream.
    """
    differs = [key for key in _SAME_MACHINE if machine.get(key) != baseline["machine"].get(key)]
    differs += [key for key, value in setting.items() if baseline[key] != value]
    if differs:
        reason = f"The baseline was measured under another {', '.join(differs)}: its times do not compare."
        return Verdict("inconclusive", name, None, None, None, max_regression, 0, 0.0, reason)
    p50, p50_low, p50_high = _baseline_median(baseline, name)
    ratio, low, high = now.p50_ms / p50, now.p50_low_ms / p50_high, now.p50_high_ms / p50_low
    outcome = _outcome(low, high, max_regression)
    reason = _reason(outcome, ratio, low, high, max_regression)
    return Verdict(outcome, name, ratio, low, high, max_regression, now.samples, 0.0, reason)


def _pairs(new: Subject, old: Subject) -> Iterator[float]:
    """Yield new latency over old of one pair of runs after the other, without end."""
    each, order = [(subject, subject.feed(subject.batch_sizes[0])) for subject in (new, old)], random.Random(0)
    while True:
        times = [0.0, 0.0]
        for which in order.sample((0, 1), 2):
            subject, feed = each[which]
            times[which] = timed(lambda s=subject, f=feed: s.run(f))
        yield times[0] / times[1]


def _baseline_median(baseline: dict[str, Any], name: str) -> tuple[float, ...]:
    figures = baseline["scenarios"]["single_stream"]
    found = tuple(figures.get(key) for key in _MEDIAN)
    if any(not isinstance(value, int | float) or value <= 0 for value in found):
        raise TledgeError(f"{name} holds no latencies to compare with.", "Save it again with 'tledge bench --save'.")
    return found


def _outcome(low: float, high: float, max_regression: float) -> Literal["pass", "regression", "inconclusive"]:
    if high <= 1 + max_regression:
        return "pass"
    return "regression" if low > 1 + max_regression else "inconclusive"


def _reason(outcome: str, ratio: float, low: float, high: float, max_regression: float) -> str:
    found = f"{ratio:.3f} × the old latency (99 % interval {low:.3f} to {high:.3f})"
    limit = f"the limit of {1 + max_regression:.3f}"
    return {
        "pass": f"{found}, within {limit}.",
        "regression": f"{found}, above {limit}.",
        "inconclusive": f"{found} lies on both sides of {limit}: measure longer or on a quieter machine.",
    }[outcome]
