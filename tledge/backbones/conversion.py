"""Convert a backbone in a process of its own, and bring back the file or the reason why there is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from tledge.errors import BackboneError, MissingExtra

# Part of the key under which converted files are kept: raise it whenever the same network would give other bytes.
REVISION = 2
MODEL_FILE, ERROR_FILE = "model.onnx", "error.json"
_NEEDED = ("tensorflow", "keras", "tf2onnx", "onnx")
# Keras must not take another engine from the user's settings, nor TensorFlow the memory of a GPU that it does not need;
# tf2onnx walks through sets, so their order is fixed.
_SETTINGS = {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1", "PYTHONHASHSEED": "0"}


def require_converter() -> None:
    """Raise MissingExtra unless all that the conversion imports is installed; nothing is imported to find out."""
    for module in _NEEDED:
        if find_spec(module) is None:
            raise MissingExtra(f"{module} (needed once, to convert the backbone)", "train")


def convert_apart(name: str, size: int) -> bytes:
    """Return the ONNX file of the backbone `name` at `size` pixels a side. Takes some ten seconds.

    Raises BackboneError when weights are damaged or cannot be downloaded, or when the process dies; the output of a
    process that died is attached as a note.
    """
    with TemporaryDirectory(prefix="tledge-") as folder:
        command = [sys.executable, "-P", "-m", "tledge.backbones.keras_convert", name, str(size), folder]
        child = subprocess.run(
            command, env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
        )
        return _result(Path(folder), name, child)


def _environment() -> dict[str, str]:
    # The child must find the same tledge and the same packages, wherever this process was told to look for them.
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    return {**os.environ, **_SETTINGS, "PYTHONPATH": path}


def _result(folder: Path, name: str, child: subprocess.CompletedProcess[str]) -> bytes:
    model, refusal = folder / MODEL_FILE, folder / ERROR_FILE
    if refusal.exists():
        raise BackboneError(**json.loads(refusal.read_text()))
    if child.returncode == 0 and model.exists():
        return model.read_bytes()
    last_line = (child.stderr.strip().splitlines() or ["it said nothing"])[-1]
    killed = "It was killed, mostly because memory ran out: have 3 GB free."
    untested = "These versions of tensorflow, keras and tf2onnx may not go together: try others."
    error = BackboneError(
        f"The conversion of {name} stopped with exit code {child.returncode}: {last_line}.",
        killed if child.returncode < 0 else untested,
    )
    error.add_note(child.stderr)
    raise error
