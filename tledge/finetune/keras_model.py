"""The trained whole as a Keras model file, for those who go on in Keras; and proof that it computes the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from tledge.finetune import apart
from tledge.finetune.plan import order
from tledge.finetune.source import source
from tledge.schema import BackboneOptions

MODEL_FILE, LAYERS_FILE, FOUND_FILE = "model.keras", "layers.npz", "probabilities.npy"
Activation = Literal["softmax", "sigmoid"]


def write(
    backbone: str,
    options: BackboneOptions,
    layers: Sequence[tuple[np.ndarray, np.ndarray]],
    activation: Activation,
    rows: Path,
    folder: Path,
) -> tuple[Path, np.ndarray]:
    """Leave `backbone` with the head's `layers` behind it in `folder`; return the .keras file and what it gives.

    `layers` are (weights float32 [inputs, outputs], bias float32 [outputs]), relu between them. `rows` is a .npy file
    of the model's inputs, uint8 [n, height, width, 3] or float32 [n, length]; the answer is float32 [n, classes].
    Raises BackboneError where Keras does not build the backbone, or the process dies.
    """
    wanted = source(backbone, options)
    arrays = {f"weights{i}": weights for i, (weights, _) in enumerate(layers)}
    arrays |= {f"bias{i}": bias for i, (_, bias) in enumerate(layers)}
    np.savez(folder / LAYERS_FILE, **arrays)
    _run(folder, rows, {**order(wanted), "activation": activation})
    return folder / MODEL_FILE, np.load(folder / FOUND_FILE)


def try_out(model: Path, rows: Path, folder: Path) -> np.ndarray:
    """Return what the .keras file `model`, one that fine-tuning wrote, gives for `rows`, as `write` does."""
    (folder / MODEL_FILE).write_bytes(model.read_bytes())
    _run(folder, rows, {"module": "", "arguments": {"name": str(model)}, "activation": ""})
    return np.load(folder / FOUND_FILE)


def _run(folder: Path, rows: Path, wanted: dict[str, object]) -> None:
    apart.run(folder, {"task": "keras_model", "rows": str(rows.absolute()), **wanted})
