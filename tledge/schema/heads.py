"""What is fitted to features, and how good it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

ClassWeight = Literal["none", "balanced", "auto"]
Optimizer = Literal["sgd", "adam"]


@dataclass(frozen=True, slots=True)
class HeadOptions:
    """What a user may ask of a head; None leaves it to the kind of head.

    `class_weight`: balanced weighs every class the same, auto does so when the largest class is more than three times
    the smallest. `hidden` are the widths of an mlp's layers. `positive` names the class that a binary head is about.
    """

    class_weight: ClassWeight = "none"
    hidden: tuple[int, ...] | None = None
    dropout: float | None = None
    optimizer: Optimizer | None = None
    learning_rate: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    positive: str | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """A fitted head: features float32 [n, dimension] → probabilities float32 [n, classes].

    `kind` is its name in `heads.HEADS`, `arrays` its numbers by name (as they stand in head.npz), `facts` plain values
    that were chosen in fitting it: the L2 strength, the temperature, the epochs. `thresholds`: empty, the most probable
    class is predicted; else one per class: of several labels every class at or above its own is predicted; of two
    classes the second when it is at or above its own. `path` is what cross-validation saw: (l2, held-out log loss,
    held-out accuracy).
    """

    kind: str
    arrays: dict[str, np.ndarray]
    facts: dict[str, Any] = field(default_factory=dict)
    thresholds: tuple[float, ...] = ()
    path: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """Figures of one class. `support` samples have it, `predicted` were given it, `correct` are both.

    `average_precision` is the area under the curve of precision over recall, of a multi-label set only; None where no
    sample has the class.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    predicted: int = 0
    correct: int = 0
    average_precision: float | None = None


@dataclass(frozen=True, slots=True)
class Metrics:
    """Figures over one set of samples. `confusion[i][j]` counts samples of class i that were predicted as class j.

    `expected_calibration_error` uses fifteen equal bins of confidence (Guo et al. 2017); `log_loss` is in nats.
    `roc_auc` is given for two classes, None where one has no samples.

    Of a multi-label set `accuracy` is the share of samples with exactly the right labels, `hamming_loss` the share of
    wrong yes-or-no decisions, `balanced_accuracy` the mean over the classes of (recall + specificity) / 2,
    `mean_average_precision` the mean over the classes that have samples, `log_loss` the mean over samples and classes;
    the bins hold the probability of every class of every sample, and `confusion` is empty.
    """

    accuracy: float
    balanced_accuracy: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    log_loss: float
    expected_calibration_error: float
    per_class: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]
    roc_auc: float | None = None
    mean_average_precision: float | None = None
    hamming_loss: float | None = None
