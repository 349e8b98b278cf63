"""A model under many settings, each measured in turns: what slows the machine down for a while slows all of them.

Every setting has one turn in each round, in an order drawn anew. The first round warms up. A setting that does not
run is no error here: it says why, and the others go on.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tledge import engine
from tledge.errors import TledgeError
from tledge.installation import first_line
from tledge.measurement import at_rest
from tledge.measurement.load.scenarios import timed
from tledge.measurement.statistics import FEWEST, median_interval
from tledge.measurement.subject import Subject, open_subject
from tledge.measurement.sweeps.held_sessions import HeldSessions, Setting

ROUNDS = FEWEST  # so many that rounds which all agree are evidence
_FEWEST_FOR_P99 = 100
# Threads that still spin after the turn of another setting would take its cores and be counted as its time.
_AT_REST_S, _LOOK_S = 0.3, 0.005
_IN_TURNS = 0.9  # of the time; the rest is for runs that end after their turn


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn: seconds of each query, float [n]; samples per second; processor seconds for a sample."""

    times: np.ndarray
    rate: float
    cpu_s: float


@dataclass(slots=True)
class Measured:
    """What the turns of a setting came to. `failed` says why it did not run; `providers` are onnxruntime's names."""

    setting: Setting
    turns: list[Turn] = field(default_factory=list)
    failed: str = ""
    providers: tuple[str, ...] = ()

    @property
    def counted(self) -> list[Turn]:
        """The turns that count: all but the first, which warmed up, unless there was no time for more."""
        return self.turns[1:] or self.turns

    @property
    def times_s(self) -> np.ndarray:
        """Seconds of every query, float [n]; none was dropped."""
        return np.concatenate([turn.times for turn in self.counted])

    @property
    def p50_ms(self) -> np.ndarray:
        """The median latency of each round, in ms, float [rounds]."""
        return np.array([1000 * np.median(turn.times) for turn in self.counted])

    @property
    def p99_ms(self) -> float | None:
        """The 99th percentile of all queries, in ms; None when they are fewer than a hundred."""
        times = self.times_s
        return 1000 * float(np.quantile(times, 0.99)) if len(times) >= _FEWEST_FOR_P99 else None

    @property
    def ms_per_sample(self) -> np.ndarray:
        """One over the throughput of each round, in ms, float [rounds]."""
        return np.array([1000 / turn.rate for turn in self.counted])

    @property
    def cpu_ms(self) -> np.ndarray:
        """The processor time of one sample in each round, in ms, float [rounds]."""
        return np.array([1000 * turn.cpu_s for turn in self.counted])


def measure_in_turn(
    settings: Sequence[Setting],
    seconds: float,
    pause_s: float = 0.0,
    tell: Callable[[int, int], None] = lambda done, total: None,
    open_model: Callable[..., Subject] = open_subject,
) -> list[Measured]:
    """Measure each of `settings` for its share of `seconds`, in ROUNDS turns; opening the sessions comes on top.

    Where models are too slow for that there are fewer rounds, but each setting has one turn at least. With `pause_s`,
    half of every turn is queries that come so long after the last answer, which is when threads that spin cost most;
    latency and processor time are theirs. `tell` hears how many turns of how many are over. `open_model` is called as
    `open_subject` is.
    """
    found, order = [Measured(each) for each in settings], random.Random(0)
    sessions, start = HeldSessions(open_model), time.perf_counter()
    total = len(found) * (ROUNDS + 1)
    share = _IN_TURNS * seconds / total
    for done in range(total):
        if done % len(found) == 0:
            queue = order.sample(found, len(found))
        if done >= len(found) and time.perf_counter() - start - sessions.opening_s >= seconds:
            break
        tell(done, total)
        _take_turn(queue[done % len(found)], sessions, share, pause_s)
    return found


def tied(rounds: Sequence[np.ndarray]) -> tuple[int, list[int]]:
    """Return which of `rounds`, float [rounds] each and less is better, is the best, and all not told from it.

    Two are told apart when the 99 % interval of the median of their ratios, round by round, does not hold 1.
    """
    best = min(range(len(rounds)), key=lambda i: float(np.median(rounds[i])))
    same = [i for i, each in enumerate(rounds) if i == best or _ratio_low(each, rounds[best]) <= 1]
    return best, same


def _ratio_low(one: np.ndarray, other: np.ndarray) -> float:
    count = min(len(one), len(other))
    return median_interval(one[:count] / other[:count])[0]


def _take_turn(measured: Measured, sessions: HeldSessions, share: float, pause_s: float) -> None:
    if measured.failed:
        return
    try:
        engine.check(measured.setting.provider)
        measured.turns.append(_turn_with_room(measured, sessions, share, pause_s))
    except Exception as error:  # onnxruntime's exception classes share no base but Exception
        measured.failed = error.message if isinstance(error, TledgeError) else f"{first_line(error)}."
    sessions.release_if_large()


def _turn_with_room(measured: Measured, sessions: HeldSessions, share: float, pause_s: float) -> Turn:
    try:
        return _turn(measured, sessions, share, pause_s)
    except Exception:
        if not sessions.close_others(measured.setting):
            raise
    return _turn(measured, sessions, share, pause_s)  # alone: beside others, memory may have been what was missing


def _turn(measured: Measured, sessions: HeldSessions, share: float, pause_s: float) -> Turn:
    setting = measured.setting
    subject = sessions.subject(setting)
    if subject.samples.batch not in (None, setting.batch):
        raise TledgeError(f"The graph takes batches of {subject.samples.batch} only.")
    measured.providers, feed = tuple(subject.session.get_providers()), sessions.feed(setting)

    def run() -> None:
        subject.run(feed)

    end = time.perf_counter() + share
    at_rest.wait(_AT_REST_S, _LOOK_S)
    if not measured.turns or np.median(measured.turns[-1].times) < share / 10:
        run()  # finds the caches full of another's data; a long run hardly feels that
    left = end - time.perf_counter()
    times, wall_s, cpu_s = _runs(run, left / 2 if pause_s else left, 0.0)
    rate = len(times) * setting.batch / wall_s
    if pause_s:
        times, _, cpu_s = _runs(run, end - time.perf_counter(), pause_s)
    return Turn(times, rate, cpu_s / (len(times) * setting.batch))


def _runs(run: Callable[[], object], seconds: float, pause_s: float) -> tuple[np.ndarray, float, float]:
    """Return the seconds of each run, float [n], and what all took of time and of processor time."""
    times: list[float] = []
    cpu, start = time.process_time(), time.perf_counter()
    while not times or time.perf_counter() - start < seconds:
        if pause_s:
            time.sleep(pause_s)
        times.append(timed(run))
    return np.array(times), time.perf_counter() - start, time.process_time() - cpu
