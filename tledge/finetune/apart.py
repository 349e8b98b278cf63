"""Have a process of its own run Keras on an order, and hear how it goes.

As in conversion.py, the gigabyte and the log lines of TensorFlow end with that process. It prints one JSON document a
line while it works; everything else that it has to say is a file in the folder of the order.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tledge.backbones.conversion import ERROR_FILE, ORDER_FILE, environment, require_converter
from tledge.errors import BackboneError

PROGRAM = "tledge.finetune.program"
_LOG_FILE = "log.txt"
# Sums that threads share are then added up in one order.
_SETTINGS = {"TF_DETERMINISTIC_OPS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}


def run(folder: Path, order: dict[str, Any], on_line: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
    """Leave `order`, plain values, in `folder` and wait until it has been followed; results are files there.

    `on_line` is given each document that the process prints. Raises MissingExtra, and BackboneError when the process
    refuses or dies; the output of a process that died is attached as a note. It is ended when the waiting is.
    """
    require_converter()
    (folder / ORDER_FILE).write_text(json.dumps(order))
    code = _follow([sys.executable, "-P", "-m", PROGRAM, str(folder)], folder, on_line)
    refusal = folder / ERROR_FILE
    if refusal.exists():
        raise BackboneError(**json.loads(refusal.read_text()))
    if code != 0:
        raise _death(order, code, (folder / _LOG_FILE).read_text(errors="replace"))


def _follow(command: list[str], folder: Path, on_line: Callable[[dict[str, Any]], None]) -> int:
    with (
        (folder / _LOG_FILE).open("wb") as log,
        subprocess.Popen(
            command,
            env={**environment(), **_SETTINGS},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            errors="replace",
        ) as child,
    ):
        try:
            for line in child.stdout or ():
                with suppress(json.JSONDecodeError):  # Keras may print too
                    on_line(json.loads(line))
        except BaseException:
            child.kill()
            raise
    return child.returncode


def _death(order: dict[str, Any], code: int, log: str) -> BackboneError:
    last_line = (log.strip().splitlines() or ["it said nothing"])[-1]
    killed = "It was killed, mostly because memory ran out: use a smaller batch size, or unfreeze less."
    untested = "These versions of tensorflow, keras and tf2onnx may not go together: try others."
    error = BackboneError(
        f"Fine-tuning {order['arguments'].get('name', order['module'])} stopped with exit code {code}: {last_line}.",
        killed if code < 0 else untested,
    )
    error.add_note(log)
    return error
