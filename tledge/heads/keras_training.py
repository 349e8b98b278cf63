"""The process that trains a head in Keras.

    python -m tledge.heads.keras_training FOLDER

FOLDER holds the order and the arrays, memory-mapped; what was learnt is left there. See training.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tledge import keras_process
from tledge.backbones.from_keras.convert import import_keras
from tledge.heads.calibration import log_loss
from tledge.heads.training import LAYERS_FILE, RESULT_FILE, SEEN_FILE, Recipe

_ROWS_TO_JUDGE = 1024
_LEAST_GAIN = 1e-3  # nats: less is not worth another round of patience


def work(folder: Path, **recipe: Any) -> None:
    """Train what the order, a Recipe, says; leave layers and facts in `folder`."""
    _train(import_keras(), folder, Recipe(**recipe))


def _train(keras: ModuleType, folder: Path, recipe: Recipe) -> None:
    """Train once where it is known for how long; else find that out on rows held aside, then train on all rows."""
    fitted, judged = _arrays(folder, "fitted"), _arrays(folder, "judged")
    epochs = recipe.epochs
    if recipe.aside:
        first, epochs = _fit(keras, folder, recipe, _without(fitted, recipe.aside), _only(fitted, recipe.aside))
        np.save(folder / SEEN_FILE, _logits(first, fitted["x"], np.array(recipe.aside)))
        network, _ = _fit(keras, folder, recipe.for_epochs(epochs), fitted, None)
    else:
        network, epochs = _fit(keras, folder, recipe, fitted, judged or None)
    layers = [array for layer in network.layers for array in layer.get_weights()]
    np.savez(folder / LAYERS_FILE, *layers)
    (folder / RESULT_FILE).write_text(json.dumps({"epochs": epochs}))


def _fit(
    keras: ModuleType, folder: Path, recipe: Recipe, fitted: dict[str, Any], judged: dict[str, Any] | None
) -> tuple[Any, int]:
    """Return the network fitted to some rows, and for how many epochs: all, or till the loss on others was lowest."""
    keras.utils.set_random_seed(recipe.seed)
    network = _network(keras, recipe, fitted["x"].shape[1])
    best = _Best(network, judged, recipe.patience) if judged is not None and recipe.patience else None
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(_optimizer(keras, recipe), loss, jit_compile=False)
    shuffle = np.random.default_rng(recipe.seed)
    for epoch in range(1, recipe.epochs + 1):
        order = shuffle.permutation(fitted["rows"])
        for start in range(0, len(order), recipe.batch_size):
            network.train_on_batch(*_batch(fitted, order[start : start + recipe.batch_size]))
        if best is not None and best.is_over(epoch):
            break
    return network, best.restore() if best is not None else recipe.epochs


class _Best:
    """The best weights so far, by the loss on the rows `judged`, and whether it is worth going on."""

    def __init__(self, network: Any, judged: dict[str, Any], patience: int) -> None:
        self.network, self.judged, self.patience = network, judged, patience
        self.loss, self.epoch, self.weights = np.inf, 0, network.get_weights()

    def is_over(self, epoch: int) -> bool:
        """Judge the network after `epoch`; tell whether the loss has hardly fallen for as long as patience goes."""
        rows = self.judged["rows"]
        logits = _logits(self.network, self.judged["x"], rows).astype(np.float64)
        loss = log_loss(logits, self.judged["truth"][rows], self.judged["weights"][rows])
        if loss < self.loss - _LEAST_GAIN:
            self.loss, self.epoch, self.weights = loss, epoch, self.network.get_weights()
        return epoch - self.epoch >= self.patience

    def restore(self) -> int:
        """Give the network its best weights back, and return the epoch that they are of."""
        self.network.set_weights(self.weights)
        return max(1, self.epoch)


def _network(keras: ModuleType, recipe: Recipe, dimension: int) -> Any:
    layers: list[Any] = [keras.Input((dimension,))]
    for width in recipe.hidden:
        layers.append(keras.layers.Dense(width, activation="relu"))
        if recipe.dropout:
            layers.append(keras.layers.Dropout(recipe.dropout))
    return keras.Sequential([*layers, keras.layers.Dense(recipe.classes)])


def _optimizer(keras: ModuleType, recipe: Recipe) -> Any:
    kinds = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}
    return kinds[recipe.optimizer](learning_rate=recipe.learning_rate)


def _batch(arrays: dict[str, Any], rows: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return features, truth and weights of `rows`, read from their files."""
    return tuple(np.asarray(arrays[name][rows]) for name in ("x", "truth", "weights"))


def _arrays(folder: Path, prefix: str) -> dict[str, Any]:
    names = ("x", "truth", "weights")
    files = {name: folder / f"{prefix}_{name}.npy" for name in names}
    if not files["x"].exists():
        return {}
    arrays = {name: np.load(path, mmap_mode="r") for name, path in files.items()}
    return {**arrays, "rows": np.arange(len(arrays["x"]))}


def _only(arrays: dict[str, Any], rows: list[int]) -> dict[str, Any]:
    return {**arrays, "rows": np.array(rows)}


def _without(arrays: dict[str, Any], rows: list[int]) -> dict[str, Any]:
    return {**arrays, "rows": np.setdiff1d(arrays["rows"], rows)}


def _logits(network: Any, x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    starts = range(0, len(rows), _ROWS_TO_JUDGE)
    parts = [network.predict_on_batch(np.asarray(x[rows[at : at + _ROWS_TO_JUDGE]])) for at in starts]
    return np.concatenate(parts)


if __name__ == "__main__":
    keras_process.follow(sys.argv[1], work)
