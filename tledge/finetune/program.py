"""The process that runs Keras: look at a network, convert its trunk, or train its tail and convert the whole.

    python -m tledge.finetune.program FOLDER

FOLDER holds the order; results are left there. See keras_process.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tledge import keras_process
from tledge.backbones.from_keras.convert import build, import_keras, leave
from tledge.finetune import graph, keras_model, training
from tledge.finetune.plan import OUTLINE_FILE
from tledge.finetune.tune import HEAD_FILE, KERAS_FILE, ROWS_FILE

_PREDICTED_AT_ONCE = 16


def work(folder: Path, task: str, **order: Any) -> None:
    """Do the `task` of the order."""
    _TASKS[task](import_keras(), folder, **order)


def _outline(keras: ModuleType, folder: Path, module: str, arguments: dict[str, Any]) -> None:
    network, _, _ = build(module, arguments)
    (folder / OUTLINE_FILE).write_text(json.dumps(graph.outline(keras, network)))


def _trunk(keras: ModuleType, folder: Path, module: str, arguments: dict[str, Any], cut: str) -> None:
    network, spec, _ = build(module, arguments)
    leave(folder, graph.split(keras, network, cut)[0], spec, {})


def _train(
    keras: ModuleType,
    folder: Path,
    module: str,
    arguments: dict[str, Any],
    cut: str | None,
    rows: str,
    options: dict[str, Any],
) -> None:
    network, spec, _ = build(module, arguments)
    keras.utils.set_random_seed(options["seed"])
    tail = graph.split(keras, network, cut)[1] if cut else training.from_input(keras, network, spec)
    with np.load(folder / ROWS_FILE) as stored:
        arrays = dict(stored)
    head = training.fit(keras, tail, np.load(rows, mmap_mode="r"), arrays, options, _say)
    weights, bias = head.get_weights()
    np.savez(folder / HEAD_FILE, weights=weights, bias=bias)
    leave(folder, network, spec, {})
    activation = "sigmoid" if arrays["several"] else "softmax"
    training.with_layers(keras, network, spec, [(weights, bias)], activation).save(folder / KERAS_FILE)


def _keras_model(
    keras: ModuleType, folder: Path, module: str, arguments: dict[str, Any], activation: str, rows: str
) -> None:
    if module:
        network, spec, _ = build(module, arguments)
        with np.load(folder / keras_model.LAYERS_FILE) as stored:
            layers = [(stored[f"weights{i}"], stored[f"bias{i}"]) for i in range(len(stored.files) // 2)]
        model = training.with_layers(keras, network, spec, layers, activation)
        model.save(folder / keras_model.MODEL_FILE)
    else:
        model = keras.saving.load_model(folder / keras_model.MODEL_FILE, compile=False)
    found = model.predict(np.load(rows, mmap_mode="r"), batch_size=_PREDICTED_AT_ONCE, verbose=0)
    np.save(folder / keras_model.FOUND_FILE, found)


_TASKS = {"outline": _outline, "trunk": _trunk, "train": _train, "keras_model": _keras_model}


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    keras_process.follow(sys.argv[1], work)
