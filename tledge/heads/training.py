"""Train dense layers in Keras, in a process of its own, and bring back what they learnt.

Arrays go there and back as files in a temporary folder.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tledge import keras_process, places
from tledge.errors import TledgeError
from tledge.heads.dense import Layer

RESULT_FILE, LAYERS_FILE, SEEN_FILE = "result.json", "layers.npz", "seen.npy"
PROGRAM = "tledge.heads.keras_training"


@dataclass(frozen=True, slots=True)
class Rows:
    """What is trained or judged on: `x` float32 [n, d], `truth` int [n], `weights` float32 [n]."""

    x: np.ndarray
    truth: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train: layers of `hidden` units with relu and dropout, then `classes` logits, under a softmax loss.

    With `patience` training ends when the loss on other rows has hardly fallen for so many epochs, and the best weights
    are kept. Those are the rows `aside`, with which it is then trained for as many epochs; or rows of their own.
    """

    hidden: tuple[int, ...]
    classes: int
    dropout: float
    optimizer: str
    learning_rate: float
    epochs: int
    batch_size: int
    seed: int
    patience: int | None = None
    aside: tuple[int, ...] = ()

    def for_epochs(self, epochs: int) -> Recipe:
        """Return the recipe for exactly `epochs` epochs on all rows."""
        return replace(self, epochs=epochs, patience=None, aside=())


@dataclass(frozen=True, slots=True)
class Trained:
    """The layers, first to last, the epochs that they were trained for, and logits [m, classes] of the rows aside."""

    layers: list[Layer]
    epochs: int
    seen: np.ndarray | None


def train_apart(recipe: Recipe, fitted: Rows, judged: Rows | None = None) -> Trained:
    """Train dense layers on `fitted`, stopped on `judged` where the recipe says so.

    Deterministic for a seed, on one kind of machine. Takes some five seconds before it begins. Raises TledgeError when
    the process dies; its output is attached as a note. Raises OutputError when the disk is full.
    """
    with TemporaryDirectory(prefix="tledge-") as name:
        folder = Path(name)
        with places.writing(folder):
            _write(folder, fitted, judged)
        keras_process.run(
            PROGRAM,
            folder,
            asdict(recipe),
            what="Training the head",
            when_killed="use fewer --hidden units, or have more memory free",
            kind=TledgeError,
        )
        return _result(folder)


def _write(folder: Path, fitted: Rows, judged: Rows | None) -> None:
    for prefix, rows in (("fitted", fitted), ("judged", judged)):
        if rows is not None:
            np.save(folder / f"{prefix}_x.npy", rows.x)
            np.save(folder / f"{prefix}_truth.npy", rows.truth)
            np.save(folder / f"{prefix}_weights.npy", rows.weights)


def _result(folder: Path) -> Trained:
    result, seen = folder / RESULT_FILE, folder / SEEN_FILE
    with np.load(folder / LAYERS_FILE) as stored:
        arrays = [stored[name] for name in stored.files]
    if not all(np.isfinite(array).all() for array in arrays):
        raise TledgeError(
            "Training the head did not settle: its weights are no finite numbers any more.",
            "Use a lower --learning-rate.",
        )
    layers = list(zip(arrays[::2], arrays[1::2], strict=True))
    return Trained(layers, json.loads(result.read_text())["epochs"], np.load(seen) if seen.exists() else None)
