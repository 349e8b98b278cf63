"""Convert a network in a process of its own, and bring back the file or the reason why there is none."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tledge import keras_process
from tledge.errors import BackboneError, MissingExtra

# Part of the key under which converted files are kept: raise it whenever the same network would give other bytes.
REVISION = 4
# The modules whose `network` the converting process may call: nothing that a user names is ever imported.
NETWORKS = (
    "tledge.backbones.efficientnet_lite",
    "tledge.backbones.from_keras.applications",
    "tledge.backbones.from_keras.file",
)
MODEL_FILE, FACTS_FILE = "model.onnx", "facts.json"
_NEEDED = ("tensorflow", "keras", "tf2onnx", "onnx")


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
    with TemporaryDirectory(prefix="tledge-") as place:
        folder = Path(place)
        keras_process.run(
            "tledge.backbones.from_keras.convert",
            folder,
            {"module": module, "arguments": arguments},
            what=f"The conversion of {arguments.get('name', module)}",
            when_killed="have 3 GB free",
            kind=BackboneError,
        )
        return Converted((folder / MODEL_FILE).read_bytes(), json.loads((folder / FACTS_FILE).read_text()))
