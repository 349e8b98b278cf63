"""Train the tail of a plan on activations (or the whole network on its input), and bring back one backbone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tledge import documents, modalities
from tledge.backbones.conversion import FACTS_FILE, MODEL_FILE
from tledge.errors import TledgeError
from tledge.finetune import apart
from tledge.finetune.plan import Plan, order
from tledge.schema import Backbone, InputSpec, Optimizer

ROWS_FILE, HEAD_FILE, KERAS_FILE = "rows.npz", "head.npz", "model.keras"
_ADAM_RATE, _SGD_RATE = 1e-3, 1e-2


@dataclass(frozen=True, slots=True)
class FineTuneOptions:
    """How the tail is trained.

    An epoch shows every picture once, in one of its views. `learning_rate` is the peak of one cycle: up over the first
    part of the steps, down along a cosine to nothing. `optimizer` None is AdamW, adam too; sgd has momentum.
    `weight_decay` spares biases and normalisation, `dropout` is that before the head. Batch normalisation stays in
    inference mode, its scales and shifts train but its statistics do not, unless `train_batch_norm`. Equal options give
    equal results on the same machine.
    """

    epochs: int = 8
    batch_size: int = 32
    learning_rate: float | None = None
    optimizer: Optimizer | None = None
    label_smoothing: float = 0.05
    dropout: float = 0.3
    weight_decay: float = 0.01
    seed: int = 0
    train_batch_norm: bool = False

    def __post_init__(self) -> None:
        """Raise TledgeError for a number that makes no sense."""
        sensible = {
            "epochs": self.epochs >= 1,
            "batch size": self.batch_size >= 1,
            "learning rate": self.learning_rate is None or self.learning_rate > 0,
            "label smoothing": 0 <= self.label_smoothing < 1,
            "dropout": 0 <= self.dropout < 1,
            "weight decay": self.weight_decay >= 0,
        }
        for name, fine in sensible.items():
            if not fine:
                raise TledgeError(f"The {name} of fine-tuning makes no sense.", "Give another number.")


@dataclass(frozen=True, slots=True)
class Epoch:
    """How one epoch went: means over it; `validation_accuracy` is None where no rows were held out.

    `seconds` counts from the start of the training.
    """

    number: int
    epochs: int
    loss: float
    accuracy: float
    validation_accuracy: float | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Tuned:
    """A fine-tuned network as one backbone, and the head that was trained with it.

    `weights` float32 [dimension, classes] and `bias` float32 [classes] make logits of its features. `keras` is the same
    as a Keras model file: pixels 0..255 (or vectors) as they are → probabilities.
    """

    backbone: Backbone
    weights: np.ndarray
    bias: np.ndarray
    history: tuple[Epoch, ...]
    keras: Path


def train(
    plan: Plan,
    activations: Path,
    targets: np.ndarray,
    folder: Path,
    options: FineTuneOptions = FineTuneOptions(),
    *,
    classes: int | None = None,
    pictures: np.ndarray | None = None,
    validation: np.ndarray | None = None,
    class_weights: np.ndarray | None = None,
    start: tuple[np.ndarray, np.ndarray] | None = None,
    on_progress: Callable[[Epoch], None] = lambda _: None,
) -> Tuned:
    """Train what `plan` says and leave the results in `folder`, which must exist.

    `activations` is a .npy file with a row for each sample or view, mapped into memory: float16 [n, plan.length] of the
    trunk, or without a cut uint8 [n, height, width, 3] or float32 [n, length]. `targets` is int [n] for classes that
    exclude each other (`classes` of them), bool [n, classes] for labels that do not. Rows with the same number in
    `pictures` int [n] are views of one sample. Rows in `validation` bool [n] are only looked at. `class_weights` float
    [classes] multiply the loss. The head starts from `start`, weights and bias as in Tuned, or at random.
    Raises BackboneError when the process that trains dies, ValueError for arrays that do not fit each other.
    """
    rows = _rows(plan, activations, targets, classes, pictures, validation, class_weights, start)
    np.savez(folder / ROWS_FILE, **rows)
    history: list[Epoch] = []

    def hear(line: dict[str, Any]) -> None:
        history.append(Epoch(epochs=options.epochs, **line))
        on_progress(history[-1])

    wanted = {"task": "train", "cut": plan.cut, "rows": str(Path(activations).absolute()), **order(plan.source)}
    apart.run(folder, {**wanted, "options": {**asdict(options), "learning_rate": _rate(options)}}, hear)
    return _result(plan, folder, tuple(history))


def _rate(options: FineTuneOptions) -> float:
    """Return the peak learning rate: what was asked for, or what suits the optimizer."""
    if options.learning_rate is not None:
        return options.learning_rate
    return _SGD_RATE if options.optimizer == "sgd" else _ADAM_RATE


def _rows(
    plan: Plan,
    activations: Path,
    targets: np.ndarray,
    classes: int | None,
    pictures: np.ndarray | None,
    validation: np.ndarray | None,
    class_weights: np.ndarray | None,
    start: tuple[np.ndarray, np.ndarray] | None,
) -> dict[str, np.ndarray]:
    """Return the arrays of the order, the targets as float32 [n, classes], everything settled and checked."""
    count, *shape = np.load(activations, mmap_mode="r").shape
    wanted = [plan.length] if plan.cut else list(plan.shape)
    each = np.arange(count)
    rows = {
        "targets": targets.astype(np.float32) if targets.ndim == 2 else np.eye(classes, dtype=np.float32)[targets],
        "pictures": each if pictures is None else pictures,
        "validation": np.zeros(count, bool) if validation is None else validation,
    }
    if shape != wanted or any(len(array) != count for array in rows.values()):
        raise ValueError(
            f"rows must be {wanted} each, with a target; found {shape}, {len(targets)} targets for {count}"
        )
    rows["several"] = np.array(targets.ndim == 2)
    rows["class_weights"] = np.ones(rows["targets"].shape[1]) if class_weights is None else class_weights
    return rows if start is None else {**rows, "weights": start[0], "bias": start[1]}


def _result(plan: Plan, folder: Path, history: tuple[Epoch, ...]) -> Tuned:
    path = folder / MODEL_FILE
    facts = json.loads((folder / FACTS_FILE).read_text())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with np.load(folder / HEAD_FILE) as head:
        weights, bias = head["weights"], head["bias"]
    backbone = Backbone(
        plan.source.name, path, _spec(facts["preprocess"]), facts["dimension"], digest, licence=plan.source.licence
    )
    return Tuned(backbone, weights, bias, history, folder / KERAS_FILE)


def _spec(values: dict[str, Any]) -> InputSpec:
    return documents.typed(modalities.SPECS[values["kind"]], values)
