"""The program of a fresh process: open a model, run it, print what that took as one JSON document.

    python -P fresh_program.py ORDER

It is started as a file, so that nothing of tledge is loaded but what a box loads too. ORDER is JSON: `model`, `ours`,
`provider`, `threads`, `inputs` (names) and `values` (an .npz of theirs, in order), `seconds` to run after the first
result, `idle_seconds` to wait then.
"""

import time

STARTED = time.monotonic()  # before anything else is loaded, on the clock that all processes share

import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402


def main(order: dict[str, Any]) -> dict[str, float]:
    """Do what `order` says. Times are in seconds, STARTED and `imported` on the clock of all processes."""
    from tledge import engine, installation, runtime

    installation.load()
    imported, imported_bytes = time.monotonic(), _resident_bytes()
    setting = {"provider": order["provider"], "threads": order["threads"]}
    model = Path(order["model"])
    opening = time.monotonic()
    session = runtime.Predictor(model, **setting).session if order["ours"] else engine.open_session(model, **setting)
    opened = time.monotonic()
    feed = _feed(order["inputs"], order["values"])
    running = time.monotonic()
    session.run(None, feed)
    first = time.monotonic() - running
    found = {"started": STARTED, "imported": imported, "session": opened - opening, "first_run": first}
    if order["seconds"]:
        found |= {"imported_bytes": imported_bytes, **_steady(session, feed, order["seconds"], order["idle_seconds"])}
    return found


def _steady(session: Any, feed: dict[str, Any], seconds: float, idle_seconds: float) -> dict[str, float]:
    runs, cpu, start = 0, time.process_time(), time.monotonic()
    while not runs or time.monotonic() - start < seconds:
        session.run(None, feed)
        runs += 1
    wall, cpu = time.monotonic() - start, time.process_time() - cpu
    memory = {"steady_bytes": _resident_bytes(), "peak_bytes": _resident_bytes("VmHWM")}
    idle_start, idle_cpu = time.monotonic(), time.process_time()
    time.sleep(idle_seconds)
    idle, idle_cpu = time.monotonic() - idle_start, time.process_time() - idle_cpu
    return {"runs": runs, "wall": wall, "cpu": cpu, "idle": idle, "idle_cpu": idle_cpu, **memory}


def _resident_bytes(which: str = "VmRSS") -> int:
    # Not getrusage(): what it calls the peak is the one of the process that started this one, where that is larger.
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{which}:"))
    return 1024 * int(line.split()[1])


def _feed(names: list[str], values: str) -> dict[str, Any]:
    import numpy as np

    with np.load(values, allow_pickle=False) as arrays:
        return {name: arrays[f"arr_{place}"] for place, name in enumerate(names)}


if __name__ == "__main__":
    import json

    sys.stdout.write(json.dumps(main(json.loads(sys.argv[1]))) + "\n")
