"""Have Keras work in a process of its own: it is given an order in a folder, and leaves its results there.

The gigabyte and the log lines of TensorFlow end with that process, and what it sets is nobody else's. While it works it
may print JSON documents, one a line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tledge.errors import TledgeError

_ORDER_FILE, _ERROR_FILE, _LOG_FILE = "order.json", "error.json", "log.txt"
# Keras must not take another engine from the user's settings, nor TensorFlow the memory of a GPU that it does not need;
# tf2onnx walks through sets, so their order is fixed, and so is the order in which threads add up shared sums.
_SETTINGS = {
    "KERAS_BACKEND": "tensorflow",
    "CUDA_VISIBLE_DEVICES": "-1",
    "PYTHONHASHSEED": "0",
    "TF_DETERMINISTIC_OPS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}
_UNTESTED = "These versions of tensorflow, keras and tf2onnx may not go together: -v shows all that it said."


def run(
    program: str,
    folder: Path,
    order: dict[str, Any],
    *,
    what: str,
    when_killed: str,
    kind: type[TledgeError],
    on_document: Callable[[Any], None] = lambda _: None,
) -> None:
    """Run the module `program` on `order`, plain values, and wait; `follow` is its side. Results are files in `folder`.

    `on_document` is given each document that it prints. Raises `kind` when it refuses or dies: `what` begins the
    sentence, `when_killed` says what helps against too little memory; what a process that died said is attached as a
    note. The process is ended when the waiting is.
    """
    (folder / _ORDER_FILE).write_text(json.dumps(order))
    code = _wait([sys.executable, "-P", "-m", program, str(folder)], folder / _LOG_FILE, on_document)
    refusal = folder / _ERROR_FILE
    if refusal.exists():
        raise kind(**json.loads(refusal.read_text()))
    if code != 0:
        log = (folder / _LOG_FILE).read_text(errors="replace")
        last_line = (log.strip().splitlines() or ["it said nothing"])[-1]
        killed = f"It was killed, mostly because memory ran out: {when_killed}."
        error = kind(f"{what} stopped with exit code {code}: {last_line}.", killed if code < 0 else _UNTESTED)
        error.add_note(log)
        raise error


def follow(folder: str, work: Callable[..., None]) -> None:
    """Call `work(folder, **order)` in the process that `run` started; a TledgeError becomes its refusal."""
    place = Path(folder)
    try:
        work(place, **json.loads((place / _ORDER_FILE).read_text()))
    except TledgeError as error:
        (place / _ERROR_FILE).write_text(json.dumps({"message": error.message, "hint": error.hint}))


def _wait(command: list[str], log: Path, on_document: Callable[[Any], None]) -> int:
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            command,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            errors="replace",
        ) as child,
    ):
        try:
            for line in child.stdout or ():
                with suppress(json.JSONDecodeError):  # Keras may print too
                    on_document(json.loads(line))
        except BaseException:
            child.kill()
            raise
    return child.returncode


def _environment() -> dict[str, str]:
    # The child must find the same tledge and the same packages, wherever this process was told to look for them.
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    return {**os.environ, **_SETTINGS, "PYTHONPATH": path}
