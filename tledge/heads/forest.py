"""`forest`: a random forest of scikit-learn, its shares of trees calibrated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tledge import machine
from tledge.errors import MissingExtra
from tledge.heads import evidence, scikit
from tledge.heads.task import Task, row_weights
from tledge.schema import Head

if TYPE_CHECKING:
    import onnx

USES: tuple[str, ...] = ()
NEEDS: tuple[str, ...] = scikit.NEEDS
MULTILABEL = False
TREES = 200
_TREES_TO_CALIBRATE = 100
# Half a tree's share: no tree for a class in this many does not make it impossible.
_LEAST_SHARE = 0.5 / TREES


def fit(task: Task) -> Head:
    """Fit a forest of `TREES` trees. `facts` hold the temperature.

    It is calibrated on validation features, else on the first fold, held out from a smaller forest. Raises DataError
    when there are samples of one class only, MissingExtra without scikit-learn or skl2onnx.
    """
    scikit.require_two(task.truth, "forest")
    weighting, classes = task.options.class_weight, len(task.classes)
    forest = _grow(task.features, task.truth, weighting, task.seed)
    rows, logits = _first_fold(task) if task.validation is None else (np.empty(0, int), np.empty((0, classes)))
    seen = evidence.gather(task, rows, logits, lambda features: _logits(forest, features, classes))
    facts = {"trees": TREES, "temperature": seen.temperature(), "class_weight": weighting, "seed": task.seed}
    return Head("forest", {"onnx": _graph(forest, facts["temperature"], classes)}, facts)


def refit(head: Head, features: np.ndarray, truth: np.ndarray, repeats: int = 1) -> Head:
    """Grow the forest again on other features, with the seed and the temperature of `head`."""
    facts = head.facts
    forest = _grow(features, truth, facts["class_weight"], facts["seed"])
    return Head("forest", {"onnx": _graph(forest, facts["temperature"], facts["classes"])}, facts, head.thresholds)


def probabilities(head: Head, features: np.ndarray) -> np.ndarray:
    """Return float32 [n, classes] for `features` float32 [n, d]."""
    return scikit.probabilities(head, features)


def graph(head: Head, dimension: int) -> onnx.ModelProto:
    """Return the TreeEnsembleClassifier, and what calibrates its shares."""
    return scikit.graph(head)


def _grow(features: np.ndarray, labels: np.ndarray, weighting: str, seed: int, trees: int = TREES) -> Any:
    try:
        from sklearn.ensemble import RandomForestClassifier
    except ImportError as error:
        raise MissingExtra("scikit-learn", "train") from error
    forest = RandomForestClassifier(trees, random_state=seed, n_jobs=machine.cores())
    weights = row_weights(labels, weighting)
    # With weights, even if all are one, scikit-learn draws its samples in another way.
    return forest.fit(features, labels, None if (weights == 1).all() else weights)


def _first_fold(task: Task) -> tuple[np.ndarray, np.ndarray]:
    fitted, inside = task.folds != 0, np.flatnonzero(task.folds == 0)
    forest = _grow(task.features[fitted], task.truth[fitted], task.options.class_weight, task.seed, _TREES_TO_CALIBRATE)
    return inside, _logits(forest, task.features[inside], len(task.classes))


def _logits(forest: Any, features: np.ndarray, classes: int) -> np.ndarray:
    shares = np.log(np.maximum(forest.predict_proba(features), _LEAST_SHARE))
    return scikit.all_logits(forest.classes_, shares, classes)


def _graph(forest: Any, temperature: float, classes: int) -> np.ndarray:
    after = [("Max", np.float32(_LEAST_SHARE)), ("Log", None), ("Div", np.float32(temperature))]
    return scikit.to_graph(forest, forest.n_features_in_, classes, after=after)
