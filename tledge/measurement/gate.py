"""Has the model become slower? Two models are judged in interleaved pairs; a stored baseline only on its own machine."""

from __future__ import annotations

import random
import time
from typing import Any

import numpy as np

from tledge.measurement.scenarios import pictures, timed, warm_up
from tledge.measurement.statistics import ratio_interval
from tledge.runtime import Predictor
from tledge.schema import SingleStream, Verdict

_LOOK_EVERY = 50
_FEWEST_PAIRS = 100
_SAME_MACHINE = ("cpu", "instruction_sets", "cores", "memory_bytes")


def against_model(new: Predictor, old: Predictor, max_regression: float, seconds: float) -> Verdict:
    """Run both in pairs, in random order within each, until the interval of the ratio clears 1 + `max_regression`.

    Noise that lasts longer than a pair hits both alike. `seconds` bounds the work; no answer by then is inconclusive.
    """
    subjects = [(new, pictures(new, 1)), (old, pictures(old, 1))]
    for predictor, _ in subjects:
        warm_up(predictor)
    start, order = time.perf_counter(), random.Random(0)
    times: tuple[list[float], list[float]] = ([], [])
    low = high = ratio = float("nan")
    outcome = "inconclusive"
    while outcome == "inconclusive" and time.perf_counter() - start < seconds:
        for _ in range(_LOOK_EVERY):
            for which in order.sample((0, 1), 2):
                predictor, image = subjects[which]
                times[which].append(timed(lambda p=predictor, i=image: p.run(i)))
        a, b = np.array(times[0]), np.array(times[1])
        low, high = ratio_interval(a, b)
        ratio = float(np.median(a) / np.median(b))
        if len(a) >= _FEWEST_PAIRS:
            outcome = _outcome(low, high, max_regression)
    spent = time.perf_counter() - start
    reason = _reason(outcome, ratio, low, high, max_regression)
    return Verdict(outcome, str(old.path), ratio, low, high, max_regression, len(times[0]), spent, reason)


def against_baseline(
    now: SingleStream,
    machine: dict[str, Any],
    setting: dict[str, Any],
    baseline: dict[str, Any],
    name: str,
    max_regression: float,
) -> Verdict:
    """Compare with the `baseline` document of an earlier bench, which must come from this machine and `setting`."""
    differs = [key for key in _SAME_MACHINE if machine.get(key) != baseline.get("machine", {}).get(key)]
    differs += [key for key, value in setting.items() if baseline.get(key) != value]
    if differs:
        reason = f"The baseline was measured under another {', '.join(differs)}: its times do not compare."
        return Verdict("inconclusive", name, None, None, None, max_regression, 0, 0.0, reason)
    then = baseline["scenarios"]["single_stream"]
    ratio = now.p50_ms / then["p50_ms"]
    low, high = now.p50_low_ms / then["p50_high_ms"], now.p50_high_ms / then["p50_low_ms"]
    outcome = _outcome(low, high, max_regression)
    return Verdict(
        outcome,
        name,
        ratio,
        low,
        high,
        max_regression,
        now.samples,
        0.0,
        _reason(outcome, ratio, low, high, max_regression),
    )


def _outcome(low: float, high: float, max_regression: float) -> Any:
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
