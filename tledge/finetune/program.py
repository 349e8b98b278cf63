"""The process that runs Keras: look at a network, convert its trunk, or train its tail and convert the whole.

    python -m tledge.finetune.program FOLDER

FOLDER holds the order; results are left there. See apart.py.
"""

from __future__ import annotations

import json
import socket
import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tledge.backbones.conversion import ERROR_FILE, FACTS_FILE, MODEL_FILE, NETWORKS, ORDER_FILE
from tledge.backbones.from_keras.convert import convert, import_keras
from tledge.errors import TledgeError
from tledge.finetune import graph, keras_model, training
from tledge.finetune.plan import OUTLINE_FILE
from tledge.finetune.tune import HEAD_FILE, KERAS_FILE, ROWS_FILE
from tledge.schema import InputSpec

_DOWNLOAD_SECONDS = 20
_PREDICTED_AT_ONCE = 16


def main(folder: str) -> None:
    """Follow ORDER_FILE in `folder`; leave results there, or ERROR_FILE for a TledgeError."""
    socket.setdefaulttimeout(_DOWNLOAD_SECONDS)
    place = Path(folder)
    order = json.loads((place / ORDER_FILE).read_text())
    try:
        _TASKS[order.pop("task")](place, **order)
    except TledgeError as error:
        (place / ERROR_FILE).write_text(json.dumps({"message": error.message, "hint": error.hint}))


def _outline(folder: Path, module: str, arguments: dict[str, Any]) -> None:
    keras, network, _ = _build(module, arguments)
    (folder / OUTLINE_FILE).write_text(json.dumps(graph.outline(keras, network)))


def _trunk(folder: Path, module: str, arguments: dict[str, Any], cut: str) -> None:
    keras, network, spec = _build(module, arguments)
    _leave(folder, graph.split(keras, network, cut)[0], spec)


def _train(
    folder: Path, module: str, arguments: dict[str, Any], cut: str | None, rows: str, options: dict[str, Any]
) -> None:
    keras, network, spec = _build(module, arguments)
    keras.utils.set_random_seed(options["seed"])
    tail = graph.split(keras, network, cut)[1] if cut else training.from_input(keras, network, spec)
    with np.load(folder / ROWS_FILE) as stored:
        arrays = dict(stored)
    head = training.fit(keras, tail, np.load(rows, mmap_mode="r"), arrays, options, _say)
    weights, bias = head.get_weights()
    np.savez(folder / HEAD_FILE, weights=weights, bias=bias)
    _leave(folder, network, spec)
    training.with_head(keras, network, spec, head, bool(arrays["several"])).save(folder / KERAS_FILE)


def _keras_model(folder: Path, module: str, arguments: dict[str, Any], activation: str, rows: str) -> None:
    if module:
        keras, network, spec = _build(module, arguments)
        with np.load(folder / keras_model.LAYERS_FILE) as stored:
            layers = [(stored[f"weights{i}"], stored[f"bias{i}"]) for i in range(len(stored.files) // 2)]
        model = training.with_layers(keras, network, spec, layers, activation)
        model.save(folder / keras_model.MODEL_FILE)
    else:
        model = import_keras().saving.load_model(folder / keras_model.MODEL_FILE, compile=False)
    found = model.predict(np.load(rows, mmap_mode="r"), batch_size=_PREDICTED_AT_ONCE, verbose=0)
    np.save(folder / keras_model.FOUND_FILE, found)


_TASKS = {"outline": _outline, "trunk": _trunk, "train": _train, "keras_model": _keras_model}


def _build(module: str, arguments: dict[str, Any]) -> tuple[ModuleType, Any, InputSpec]:
    if module not in NETWORKS:
        raise ValueError(f"{module} is not among {', '.join(NETWORKS)}")
    keras = import_keras()
    network, spec, _ = import_module(module).network(keras, **arguments)
    return keras, network, spec


def _leave(folder: Path, network: Any, spec: InputSpec) -> None:
    facts = {"dimension": network.outputs[0].shape[-1], "preprocess": asdict(spec)}
    (folder / MODEL_FILE).write_bytes(convert(network, spec))
    (folder / FACTS_FILE).write_text(json.dumps(facts))


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
