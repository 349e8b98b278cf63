"""Claim: the preset `small` takes half of the processor time per request at most, and is as fast beside other work.

    python -m benchmarks.presets [--json]

onnxruntime's threads spin when they have nothing to do. On a box of its own, back to back, that is fast; between
requests it is a core that heats the box, and beside other work a core that is missing. `small` ends it, and `paused`
lets them spin for a millisecond. Each setting runs in fresh processes, turn by turn: an int8 model, one thread a core;
back to back, then with pauses of 50 ms, then beside a busy process on every core. What the presets cost is stated, and
what other settings came to that guides recommend: those that did not help here are no presets.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import measure, processes, script, small_model
from tledge.engine import PRESETS

CPU_BAR, LATENCY_BAR = 0.5, 1.0
ROUNDS = 5
DEFAULT, SMALL, PAUSED = "onnxruntime's own", "small", "paused"
SETTINGS: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    SMALL: {"entries": PRESETS["small"]},
    PAUSED: {"entries": PRESETS["paused"]},
    "no arena": {"attributes": {"enable_cpu_mem_arena": False}},
    "no memory pattern": {"attributes": {"enable_mem_pattern": False}},
    "denormals are zero": {"entries": {"session.set_denormal_as_zero": "1"}},
    "blocks of 4": {"entries": {"session.dynamic_block_base": "4"}},
}
FIGURES = {
    "busy_ms": "p50 back to back",
    "paused_ms": "p50 with pauses of 50 ms",
    "paused_cpu_ms": "processor time per request, with pauses",
    "beside_ms": "p50 back to back, beside other work on every core",
    "peak_mb": "peak memory",
}

# Standard library, numpy and onnxruntime alone, as a program on a box might be.
_CHILD = """
import json, os, subprocess, sys, time
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy as np, onnxruntime
path, setting = sys.argv[1], json.loads(sys.argv[2])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.inter_op_num_threads = len(os.sched_getaffinity(0)), 1
for key, value in setting.get("entries", {}).items():
    options.add_session_config_entry(key, value)
for key, value in setting.get("attributes", {}).items():
    setattr(options, key, value)
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
(taken,) = session.get_inputs()
feed = {taken.name: np.random.default_rng(0).integers(0, 256, [1, *taken.shape[1:]], np.uint8)}

def ask(seconds, pause):
    times, used, end = [], time.process_time(), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        session.run(None, feed)
        times.append(time.perf_counter() - start)
        time.sleep(pause) if pause else None
    return 1000 * float(np.median(times)), 1000 * (time.process_time() - used) / len(times)

ask(0.3, 0)
busy, paused = ask(0.7, 0), ask(1.5, 0.05)
others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in os.sched_getaffinity(0)]
time.sleep(0.2)
beside = ask(0.8, 0)
for other in others:
    other.kill()
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM:"))
found = {"busy_ms": busy[0], "paused_ms": paused[0], "paused_cpu_ms": paused[1], "beside_ms": beside[0]}
print(json.dumps({**found, "peak_mb": peak / 1e3}))
"""


def claims(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the two claims for the preset, then what each setting came to."""
    with processes.workspace() as folder:
        cache = processes.new_cache(folder)
        found = _measured(cache, small_model.int8(cache, folder))
    text = f"'small' over {DEFAULT}: {FIGURES['paused_cpu_ms']}: at most {CPU_BAR}"
    yield measure.claim(text, _ratio(found, SMALL, "paused_cpu_ms"), at_most=CPU_BAR, kind="ratio")
    text = f"'small' over {DEFAULT}: {FIGURES['beside_ms']}: at most {LATENCY_BAR}"
    yield measure.claim(text, _ratio(found, SMALL, "beside_ms"), at_most=LATENCY_BAR, kind="ratio")
    for name in SETTINGS:
        for figure, words in FIGURES.items():
            if name == DEFAULT:
                unit = figure.rpartition("_")[2]
                yield measure.claim(f"{name}: {words}, {unit}", measure.spread(found[name][figure]))
            else:
                yield measure.claim(f"{name} over {DEFAULT}: {words}", _ratio(found, name, figure), kind="ratio")


def _ratio(found: dict[str, dict[str, list[float]]], name: str, figure: str) -> measure.Spread:
    return measure.ratio(found[name][figure], found[DEFAULT][figure])


def _measured(cache: Path, model: Path) -> dict[str, dict[str, list[float]]]:
    """Return each figure of each setting, in order of rounds; every other round goes backwards."""
    found: dict[str, dict[str, list[float]]] = {name: {figure: [] for figure in FIGURES} for name in SETTINGS}
    for number in range(ROUNDS):
        processes.say(f"round {number + 1} of {ROUNDS}")
        for name in reversed(SETTINGS) if number % 2 else SETTINGS:
            command = processes.python(_CHILD, model, json.dumps(SETTINGS[name]))
            for figure, value in processes.run(command, cache).document().items():
                found[name][figure].append(value)
    return found


if __name__ == "__main__":
    script.main("presets", __doc__, claims)
