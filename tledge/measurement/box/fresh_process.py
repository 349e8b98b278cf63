"""Run a model in a process that does nothing else, and was not there before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tledge.errors import TledgeError
from tledge.measurement import at_rest
from tledge.measurement.subject import Subject

_PROGRAM = Path(__file__).with_name("fresh_program.py")
_WAIT_S = 600.0  # then it hangs; but TensorRT builds engines for as long as it takes
_AT_REST_S, _LOOK_S = 3.0, 0.1


def run(
    subject: Subject,
    provider: str,
    *,
    seconds: float = 0.0,
    idle_seconds: float = 0.0,
    environment: dict[str, str] | None = None,
) -> dict[str, float]:
    """Open the model of `subject` on `provider` in a fresh process, run it, and return what fresh_program.py prints.

    With `seconds` it goes on to run that long. `spawned` is added, when the process was started. `environment` is put
    over this process's own. Raises TledgeError when the process fails, with its last line, or does not end.
    """
    at_rest.wait(_AT_REST_S, _LOOK_S)
    with tempfile.TemporaryDirectory(prefix="tledge-") as folder:
        feed, values = subject.feed(subject.batch_sizes[0]), Path(folder, "feed.npz")
        np.savez(values, *(_plain(each) for each in feed.values()))
        order = {
            "model": str(subject.path.absolute()),
            "ours": subject.predictor is not None,
            "provider": provider,
            "threads": subject.threads,
            "inputs": list(feed),
            "values": str(values),
            "seconds": seconds,
            "idle_seconds": idle_seconds,
        }
        spawned = time.monotonic()
        wait_s = None if provider.startswith("tensorrt") else _WAIT_S
        return {"spawned": spawned, **ask(_PROGRAM, order, str(subject.path), wait_s, environment or {})}


def _plain(values: np.ndarray) -> np.ndarray:
    return values.astype(str) if values.dtype == object else values  # texts: an array of objects would be pickled


def ask(
    program: Path, order: dict[str, Any], name: str, wait_s: float | None, environment: dict[str, str] | None = None
) -> dict[str, Any]:
    """Run the file `program` on `order` in a fresh process, and return the JSON object in the last line it prints.

    Raises TledgeError, which calls the model `name`, when the process fails, with its last line, or does not end
    within `wait_s`.
    """
    command = [sys.executable, "-P", str(program), json.dumps(order)]
    # The process must find the same packages, wherever this one was told to look for them.
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": path, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=wait_s,
        )
    except subprocess.TimeoutExpired as error:
        raise TledgeError(f"A fresh process that runs {name} had not ended after {wait_s:.0f} s.") from error
    if done.returncode != 0:
        raise _failed(done, name)
    return json.loads(done.stdout.splitlines()[-1])


def _failed(done: subprocess.CompletedProcess[str], name: str) -> TledgeError:
    last_line = (done.stderr.strip().splitlines() or ["it said nothing"])[-1].rstrip(".")
    killed = "It was killed, mostly because memory ran out: end other programs, or use a smaller model."
    error = TledgeError(
        f"A fresh process could not run {name} (exit code {done.returncode}): {last_line}.",
        killed if done.returncode < 0 else "",
    )
    error.add_note(done.stderr)
    return error
