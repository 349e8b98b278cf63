"""Claim: measuring costs 20 µs and 2 % of an inference at most, with LoadGen or without.

    python -m benchmarks.overhead [--json]

A bare loop over onnxruntime's `session.run`, the loop of `tledge bench` and LoadGen's single stream run one model in
the same session, turn by turn, in random order. What a loop takes for an inference, the time between two runs
included, is held against what the bare loop takes; so is the latency that is reported, in which only the clock's own
time can be. A graph of one node, which takes 5 µs, shows the microseconds; ELPV's int8 model shows what share they are.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import datasets, measure, processes, script
from tledge import measurement
from tledge.measurement import LoadGen, Subject
from tledge.measurement.load import latencies, scenarios

BAR_US, BAR_RATIO = 20.0, 1.02
SECONDS = 0.1
PAUSE_S = 0.03  # as LoadGen takes to begin: onnxruntime's threads have gone to sleep by then
PICTURES = 20  # of each class: what a model costs does not depend on how good it is
BARE, OWN, LOADGEN = "a bare loop", "tledge's loop", "LoadGen"
# Per inference, in seconds: what the loop takes in all, what it reports, and the median time between two runs.
Took = dict[str, list[tuple[float, float, float]]]


def claims(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the claims for the smallest graph, then for a real model."""
    with processes.workspace() as folder:
        yield from _claims("a graph of one node", _tiny(folder), 100, None)
        yield from _claims("ELPV's int8 model", _real(folder), 300, BAR_RATIO)


def _claims(name: str, path: Path, rounds: int, bar: float | None) -> Iterator[dict[str, Any]]:
    processes.say(f"{name}: {rounds} rounds")
    took = _rounds(measurement.open_subject(path), rounds)
    bare, at_most = [whole for whole, _, _ in took[BARE]], f": at most {bar}" if bar else ""
    yield measure.claim(f"{name}: {BARE}, µs for an inference", measure.spread(1e6 * each for each in bare))
    for way in list(took)[1:]:
        whole, reported, between = (list(each) for each in zip(*took[way], strict=True))
        beyond = measure.spread(1e6 * (ours - theirs) for ours, theirs in zip(whole, bare, strict=True))
        text = f"{name}: {way} beyond {BARE}, µs for an inference: at most {BAR_US:g}"
        yield measure.claim(text, beyond, at_most=BAR_US)
        text = f"{name}: {way}, µs between the end of a run and the begin of the next, median"
        yield measure.claim(text, measure.spread(1e6 * each for each in between))
        for words, took_ in (("in all", whole), ("as reported", reported)):
            text = f"{name}: {way} over {BARE}, {words}{at_most}"
            yield measure.claim(text, measure.ratio(took_, bare), at_most=bar, kind="ratio")


def _rounds(subject: Subject, rounds: int) -> Took:
    """Return what each loop took and reported for an inference, round by round."""
    feed, run, driver = subject.feed(1), subject.session.run, LoadGen() if LoadGen.installed() else None
    measurement.warm_up(subject)
    start = time.perf_counter()
    run(None, feed)
    count = max(10, round(SECONDS / (time.perf_counter() - start)))

    def bare() -> tuple[float, float, float]:
        start = time.perf_counter()
        for _ in range(count):
            run(None, feed)
        each = (time.perf_counter() - start) / count
        return each, each, 0.0

    def ours(loadgen: LoadGen | None) -> tuple[float, float, float]:
        marks, _ = scenarios.stream(subject, "SingleStream", 1, 1, SECONDS, loadgen)
        times, reported = np.frombuffer(marks, np.int64), float(np.mean(latencies.milliseconds(marks)))
        between = float(np.median(times[2::2] - times[1:-1:2]))
        return int(times[-1] - times[0]) / (len(times) / 2) / 1e9, reported / 1e3, between / 1e9

    calls = {BARE: bare, OWN: lambda: ours(None)} | ({LOADGEN: lambda: ours(driver)} if driver else {})
    took: Took = {name: [] for name in calls}
    order = random.Random(0)
    for _ in range(rounds):
        for name in order.sample(list(calls), len(calls)):
            time.sleep(PAUSE_S)
            took[name].append(calls[name]())
    return took


def _tiny(folder: Path) -> Path:
    """Write a graph that doubles four numbers."""
    import onnx
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "tiny", [x], [y])
    path = folder / "tiny.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def _real(folder: Path) -> Path:
    processes.say("training a small model")
    cache, pictures = processes.new_cache(folder), datasets.elpv(folder / "elpv", PICTURES)
    run, model = folder / "run", folder / "model.onnx"
    processes.run(processes.tledge("train", pictures, "--out", run, "--json"), cache)
    processes.run(processes.tledge("export", run, "--out", model, "--min-agreement", "0", "--json"), cache)
    return model


if __name__ == "__main__":
    script.main("overhead", __doc__, claims)
