"""Convert a network in a process of its own, and bring back the file or the reason why there is none."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tledge.errors import BackboneError, MissingExtra

# Part of the key under which converted files are kept: raise it whenever the same network would give other bytes.
REVISION = 3
# The modules whose `network` the converting process may call: nothing that a user names is ever imported.
NETWORKS = (
    "tledge.backbones.efficientnet_lite",
    "tledge.backbones.from_keras.applications",
    "tledge.backbones.from_keras.file",
)
ORDER_FILE, MODEL_FILE, FACTS_FILE, ERROR_FILE = "order.json", "model.onnx", "facts.json", "error.json"
_NEEDED = ("tensorflow", "keras", "tf2onnx", "onnx")
# Keras must not take another engine from the user's settings, nor TensorFlow the memory of a GPU that it does not need;
# tf2onnx walks through sets, so their order is fixed.
_SETTINGS = {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1", "PYTHONHASHSEED": "0"}


@dataclass(frozen=True, slots=True)
class Converted:
    """The bytes of an ONNX file, and what is known of it, fit for JSON.

    `facts` holds at least `dimension` and `preprocess`, the fields of its input specification.
    """

    data: bytes
    facts: dict[str, Any]


def require_converter() -> None:
    """Raise MissingExtra unless all that the conversion imports is installed; nothing is imported to find out."""
    for module in _NEEDED:
        if find_spec(module) is None:
            raise MissingExtra(f"{module} (needed once, to convert the backbone)", "train")


def key(*parts: Any) -> str:
    """Return twelve hex digits that name a conversion made from `parts`, plain values, by this revision."""
    return hashlib.sha256(json.dumps([REVISION, *parts]).encode()).hexdigest()[:12]


def convert_apart(module: str, arguments: dict[str, Any]) -> Converted:
    """Return what `network(keras, **arguments)` of `module`, one of NETWORKS, gives as ONNX. Takes ten seconds or more.

    `arguments` are plain values; messages call the network by the one named `name`. `network` returns a trainable
    Keras model, its input specification and facts; see from_keras.convert.
    Raises BackboneError when weights are damaged or cannot be downloaded, or when the process dies; the output of a
    process that died is attached as a note.
    """
    with TemporaryDirectory(prefix="tledge-") as folder:
        Path(folder, ORDER_FILE).write_text(json.dumps({"module": module, "arguments": arguments}))
        command = [sys.executable, "-P", "-m", "tledge.backbones.from_keras.convert", folder]
        child = subprocess.run(
            command, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
        )
        return _result(Path(folder), str(arguments.get("name", module)), child)


def environment() -> dict[str, str]:
    """Return the environment of a process that runs Keras: this one's modules, TensorFlow on the CPU."""
    # The child must find the same tledge and the same packages, wherever this process was told to look for them.
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    return {**os.environ, **_SETTINGS, "PYTHONPATH": path}


def _result(folder: Path, name: str, child: subprocess.CompletedProcess[str]) -> Converted:
    model, refusal = folder / MODEL_FILE, folder / ERROR_FILE
    if refusal.exists():
        raise BackboneError(**json.loads(refusal.read_text()))
    if child.returncode == 0 and model.exists():
        return Converted(model.read_bytes(), json.loads((folder / FACTS_FILE).read_text()))
    last_line = (child.stderr.strip().splitlines() or ["it said nothing"])[-1]
    killed = "It was killed, mostly because memory ran out: have 3 GB free."
    untested = "These versions of tensorflow, keras and tf2onnx may not go together: try others."
    error = BackboneError(
        f"The conversion of {name} stopped with exit code {child.returncode}: {last_line}.",
        killed if child.returncode < 0 else untested,
    )
    error.add_note(child.stderr)
    raise error
