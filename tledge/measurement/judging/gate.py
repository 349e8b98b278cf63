"""Has the model become slower? Judged by the interval of a ratio, and not judged where that cannot tell.

Two model files run in interleaved pairs. Against a file of stored figures the model runs in pairs with a small fixed
workload, and what is compared is the ratio to it, then and now: a runner that is busier or slower today is so for both.

The measurement is looked at whenever the number of pairs has doubled, and ends when the answer is clear. Many looks
would find by chance what is not there, so there are twelve at most, the last when the time is up, and each is held to a
twelfth of the error that all may make together. A 99th percentile cannot be known that well: its interval holds for
each look alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Literal

import numpy as np

from tledge.measurement.judging import intervals
from tledge.measurement.judging.intervals import Interval
from tledge.measurement.judging.pairs import Opener, Pairs, pairs
from tledge.schema import Quantile, Reference, Verdict

ERROR = 0.01  # how often a verdict may be wrong
_LOOKS = 12
_FIRST_LOOK = 25
_ENOUGH = 200
_FEWEST_FOR_P99 = 500  # pairs: of fewer, five at most would lie beyond it
# By what share the ratio to the fixed workload may change when only the machine's load did: a little at the same pace;
# where the workload itself ran at another pace, half of that change. Of five models (1 to 20 ms, one thread and two),
# quiet, beside a core that is busy on and off, two busy loops and six, 68 of 70 ratios moved by less, and mostly down.
_WEATHER, _PACE_SHARE = 0.03, 0.5
_OTHER_PACE = 0.1  # from which on it is told
P99 = 0.99
Outcome = Literal["pass", "regression", "inconclusive"]


def against_model(
    new: Opener,
    old: Opener,
    name: str,
    max_regression: float,
    seconds: float,
    *,
    p99: bool = False,
    opening_sd: float = intervals.OPENING_SD,
) -> Verdict:
    """Judge `new` against `old`, whose file is called `name`: slower by more than the share `max_regression`?

    Ends when that is clear, after `seconds` at most but for the pair under way; not clear by then is inconclusive. With
    `p99` the 99th percentile is judged too, and the verdict is the worse of both. `opening_sd` is how far the ratio of
    two openings of one file scatters here, see intervals.py.
    """
    for found, spent in _looks(pairs(new, old), seconds):
        new_s, old_s = found.arrays()
        verdict = judge(new_s, old_s, found.openings, name, max_regression, spent, p99=p99, opening_sd=opening_sd)
        if verdict.outcome != "inconclusive":
            break
    return verdict


def judge(
    new_s: np.ndarray,
    old_s: np.ndarray,
    openings: int,
    against: str,
    max_regression: float,
    seconds: float = 0.0,
    *,
    p99: bool = False,
    opening_sd: float = intervals.OPENING_SD,
) -> Verdict:
    """Judge the latencies float [pairs] of both models of each pair, in any unit, measured in `seconds`."""
    count = len(new_s)
    found = intervals.of_medians(new_s, old_s, openings, ERROR / _LOOKS, opening_sd)
    outcomes, reasons = [_outcome(found, max_regression)], [_reason(found, max_regression, "latency")]
    tail = None
    if p99:
        tail = intervals.of_quantiles(new_s, old_s, P99, openings, ERROR, opening_sd)
        outcomes.append(_outcome(tail, max_regression) if count >= _FEWEST_FOR_P99 else "inconclusive")
        reasons.append(_reason(tail, max_regression, "99th percentile"))
    outcome = _worst(outcomes)
    reason = reasons[outcomes.index(outcome)]
    outcome, reason = _enough(count, outcome, reason)
    return Verdict(
        outcome=outcome,
        against=against,
        ratio=found.ratio,
        low=found.low,
        high=found.high,
        max_regression=max_regression,
        pairs=count,
        seconds=seconds,
        reason=reason,
        openings=openings,
        p99=Quantile(*tail) if tail else None,
    )


def against_reference(
    model: Opener, workload: Opener, digest: str, seconds: float, *, opening_sd: float = intervals.OPENING_SD
) -> Reference:
    """Run `model` and the fixed `workload` in pairs for `seconds`; return the ratio of their medians.

    Two hundred pairs are waited for, but no longer than three times `seconds`, and eleven in any case.
    """
    for found, spent in _timed(pairs(model, workload, alike=True)):
        if (len(found) >= _ENOUGH and spent >= seconds) or (len(found) >= intervals.FEWEST and spent >= 3 * seconds):
            break
    return _reference(found, digest, ERROR / 2, opening_sd, spent)


def against_baseline(
    model: Opener,
    workload: Opener,
    then: Reference,
    name: str,
    max_regression: float,
    seconds: float,
    *,
    opening_sd: float = intervals.OPENING_SD,
) -> tuple[Verdict, Reference]:
    """Judge `model` against the figures `then` of a baseline called `name`, by its ratio to the same `workload`.

    Ends as `against_model` does; returns that ratio too. The interval of the verdict allows for what another load of
    the machine does to it.
    """
    stored = Interval(then.ratio, then.low, then.high)
    for found, spent in _looks(pairs(model, workload, alike=True), seconds):
        now = _reference(found, then.workload, ERROR / _LOOKS, opening_sd, spent)
        pace = now.p50_ms / then.p50_ms
        weather = _WEATHER + _PACE_SHARE * abs(math.log(pace))
        ratio = intervals.between(Interval(now.ratio, now.low, now.high), stored, weather)
        verdict = _of_baseline(ratio, pace, found, name, max_regression, spent)
        if verdict.outcome != "inconclusive":
            break
    return verdict, now


def _of_baseline(
    ratio: Interval, pace: float, found: Pairs, name: str, max_regression: float, seconds: float
) -> Verdict:
    outcome, reason = _outcome(ratio, max_regression), _reason(ratio, max_regression, "latency")
    if abs(math.log(pace)) > _OTHER_PACE:
        reason += f" The fixed workload took {pace:.2f} × as long as with the baseline: the machine is not as it was."
    outcome, reason = _enough(len(found), outcome, reason)
    return Verdict(outcome, name, *ratio, max_regression, len(found), seconds, reason, found.openings)


def _looks(growing: Iterator[Pairs], seconds: float) -> Iterator[tuple[Pairs, float]]:
    """Yield the pairs and the seconds they took, each time their number has doubled, and when `seconds` are over."""
    looks = 0
    for found, spent in _timed(growing):
        if spent >= seconds:
            yield found, spent
            return
        if looks < _LOOKS - 1 and len(found) >= _FIRST_LOOK << looks:
            looks += 1
            yield found, spent


def _timed(growing: Iterator[Pairs]) -> Iterator[tuple[Pairs, float]]:
    """Yield the pairs and the seconds since the first of them: how long the first opening takes is no measurement."""
    start = None
    for found in growing:
        start = start or time.perf_counter()
        yield found, time.perf_counter() - start


def _reference(found: Pairs, digest: str, error: float, opening_sd: float, seconds: float) -> Reference:
    new, old = found.arrays()
    ratio = intervals.of_medians(new, old, found.openings, error, opening_sd)
    return Reference(digest, *ratio, 1000 * float(np.median(old)), len(found), found.openings, seconds)


def _outcome(found: Interval, max_regression: float) -> Outcome:
    if found.high <= 1 + max_regression:
        return "pass"
    return "regression" if found.low > 1 + max_regression else "inconclusive"


def _enough(count: int, outcome: Outcome, reason: str) -> tuple[Outcome, str]:
    """Return `outcome` and `reason`, unless `count` pairs are too few for any."""
    if count >= intervals.FEWEST:
        return outcome, reason
    few = f"{count} pairs of runs are too few to judge by, {intervals.FEWEST} are needed: measure longer."
    return "inconclusive", few


def _worst(outcomes: list[Outcome]) -> Outcome:
    order: tuple[Outcome, ...] = ("regression", "inconclusive", "pass")
    return next(each for each in order if each in outcomes)


def _reason(found: Interval, max_regression: float, what: str) -> str:
    said = f"{found.ratio:.3f} × the old {what} (99 % interval {found.low:.3f} to {found.high:.3f})"
    limit = f"the limit of {1 + max_regression:.3f}"
    return {
        "pass": f"{said}, within {limit}.",
        "regression": f"{said}, above {limit}.",
        "inconclusive": f"{said} lies on both sides of {limit}: measure longer or on a quieter machine.",
    }[_outcome(found, max_regression)]
