"""Claim: the latency gate is right beside a neighbour that comes and goes: no false alarm, no regression missed.

    python -m benchmarks.gate [--json] [--only PART,…] [--gates N]

Every gate is a fresh one: both models opened anew, judged as `tledge bench --against` judges them, on all cores. The
neighbour is a process that loads one core for a while (0.2 to 2 s), and leaves it alone for a while.

same      the same model against itself beside the neighbour: how often is that a regression?
slower    10 % slower, measured in pairs on the quiet machine, beside the neighbour: how often is it caught, how soon?
slight    3 % slower on the quiet machine, against a limit of 1 %: how often is it caught?
width     how far the gate's ratio scatters, and that of two runs one after the other, as long together, beside the
          neighbour: what CI jobs do that compare with a stopwatch
baseline  a baseline saved on the quiet machine, the same model compared with it beside the neighbour
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure, processes, script, slower, small_model
from benchmarks.slower import opener
from tledge import machine
from tledge.measurement.judging import apart
from tledge.schema import Verdict

LIMIT, SLIGHT_LIMIT = 0.05, 0.01
FALSE_BAR, CAUGHT_BAR, SECONDS_BAR, SLIGHT_BAR, WIDTH_BAR, BASELINE_BAR = 0.01, 0.95, 60.0, 0.8, 3.0, 0.98
GATES, WIDTHS = 200, 20
_WIDTH_S = 4.0
_NEIGHBOUR = """
import random, sys, time
draw = random.Random(int(sys.argv[1]))
while True:
    end = time.perf_counter() + draw.uniform(0.2, 2)
    while time.perf_counter() < end:
        pass
    time.sleep(draw.uniform(0.2, 2))
"""
PARTS = ("same", "slower", "slight", "width", "baseline")


def claims(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the claims of the parts asked for; what must be quiet is measured first."""
    gates = arguments.gates
    with processes.workspace() as folder:
        model = small_model.int8(processes.new_cache(folder), folder)
        if "slight" in arguments.only:
            yield from _slight(model, folder, gates // 4)
        if "slower" in arguments.only:
            slow = folder / "slower.onnx"
            ratio = slower.by(0.1, model, slow)
        then = _saved(model)
        with _neighbour():
            if "same" in arguments.only:
                yield from _same(model, gates)
            if "slower" in arguments.only:
                yield from _slower(model, slow, ratio, gates)
            if "width" in arguments.only:
                yield from _width(model)
            if "baseline" in arguments.only:
                yield from _baseline(model, then, gates // 2)


def _same(model: Path, gates: int) -> Iterator[dict[str, Any]]:
    found = _gates("the same", gates, lambda: _against(model, model, LIMIT))
    text = f"the same model, {gates} gates beside a neighbour, limit 5 %: share of regressions: at most 0.01"
    yield measure.claim(text, _share(found, "regression"), at_most=FALSE_BAR)
    yield measure.claim("the same: share that was inconclusive after 60 s", _share(found, "inconclusive"))
    yield measure.claim("the same: seconds until the verdict", _seconds(found))


def _slower(model: Path, slow: Path, ratio: float, gates: int) -> Iterator[dict[str, Any]]:
    found = _gates("10 % slower", gates, lambda: _against(slow, model, LIMIT))
    text = f"{100 * (ratio - 1):.1f} % slower (quiet), {gates} gates beside a neighbour, limit 5 %: share caught"
    yield measure.claim(text, _share(found, "regression"), at_least=CAUGHT_BAR)
    yield measure.claim("10 % slower: share that passed", _share(found, "pass"))
    seconds = _seconds(found)
    yield measure.claim("10 % slower: seconds of the slowest gate: at most 60", (seconds[2],) * 3, at_most=SECONDS_BAR)
    yield measure.claim("10 % slower: seconds until the verdict", seconds)


def _slight(model: Path, folder: Path, gates: int) -> Iterator[dict[str, Any]]:
    slow = folder / "slight.onnx"
    ratio = slower.by(0.03, model, slow)
    found = _gates("3 % slower", gates, lambda: _against(slow, model, SLIGHT_LIMIT))
    text = f"{100 * (ratio - 1):.1f} % slower, {gates} gates on the quiet machine, limit 1 %: share caught"
    yield measure.claim(text, _share(found, "regression"), at_least=SLIGHT_BAR)
    yield measure.claim("3 % slower: seconds until the verdict", _seconds(found))


def _width(model: Path) -> Iterator[dict[str, Any]]:
    """Compare how ratios of the same model scatter about 1: an interval that is right is as wide as they do."""
    paired, apart = [], []
    for number in range(WIDTHS):
        processes.say(f"width, {number + 1} of {WIDTHS}")
        paired.append(_paired(model))
        apart.append(_median(model) / _median(model))
    reach = [float(np.subtract(*np.quantile(np.log(each), [0.95, 0.05]))) for each in (apart, paired)]
    text = "two runs one after the other over pairs, equally long: width that holds 90 % of the ratios"
    yield measure.claim(text, (reach[0] / reach[1],) * 3, at_least=WIDTH_BAR)
    yield measure.claim("pairs: ratio of the model to itself, 20 times", measure.spread(paired))
    yield measure.claim("one after the other: the same", measure.spread(apart))


def _baseline(model: Path, then: Any, gates: int) -> Iterator[dict[str, Any]]:
    def gate() -> Verdict:
        return apart.against_baseline(model, then, "baseline", _setting(), LIMIT, 10)[0]

    found = _gates("baseline", gates, gate)
    text = f"a baseline saved quiet, {gates} comparisons beside a neighbour, limit 5 %: share without regression"
    lost = _share(found, "regression")[0]
    yield measure.claim(text, (1 - lost,) * 3, at_least=BASELINE_BAR)
    yield measure.claim("baseline: share that was inconclusive after 10 s", _share(found, "inconclusive"))
    yield measure.claim("baseline: ratio", measure.spread(each.ratio for each, _ in found))


def _saved(model: Path) -> Any:
    return apart.against_reference(model, _setting(), 5)


def _against(new: Path, old: Path, limit: float) -> Verdict:
    return apart.against_model(new, old, _setting(), limit, SECONDS_BAR - 3)


def _setting() -> apart.Setting:
    return {"provider": "cpu", "threads": machine.cores(), "input_file": None}


def _gates(what: str, count: int, gate: Callable[[], Verdict]) -> list[tuple[Verdict, float]]:
    """Return `count` verdicts and the seconds that each took, opening included."""
    found = []
    for number in range(count):
        start = time.perf_counter()
        found.append((gate(), time.perf_counter() - start))
        if (number + 1) % 10 == 0:
            names = [verdict.outcome for verdict, _ in found]
            counts = ", ".join(f"{names.count(each)} {each}" for each in ("pass", "regression", "inconclusive"))
            processes.say(f"{what}: {number + 1} of {count}: {counts}")
    return found


def _share(found: list[tuple[Verdict, float]], outcome: str) -> measure.Spread:
    share = sum(verdict.outcome == outcome for verdict, _ in found) / len(found)
    return share, share, share


def _seconds(found: list[tuple[Verdict, float]]) -> measure.Spread:
    return measure.spread(seconds for _, seconds in found)


def _paired(model: Path) -> float:
    # A limit of nothing is one that the same model cannot be told from, so that all of the time is used.
    return apart.against_model(model, model, _setting(), 0.0, _WIDTH_S).ratio


def _median(model: Path) -> float:
    """Return the median latency of a run of half as long as pairs take, in a session of its own."""
    subject, times = opener(model)(), []
    feed = subject.feed()
    for _ in range(10):
        subject.run(feed)
    while sum(times) < _WIDTH_S / 2:
        start = time.perf_counter()
        subject.run(feed)
        times.append(time.perf_counter() - start)
    return float(np.median(times))


@contextlib.contextmanager
def _neighbour() -> Iterator[None]:
    other = subprocess.Popen([sys.executable, "-c", _NEIGHBOUR, "1"])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(PARTS), help=",".join(PARTS))
    parser.add_argument("--gates", type=int, default=GATES, help="how often; fewer for slight and baseline")


if __name__ == "__main__":
    script.main("gate", __doc__, claims, _options)
