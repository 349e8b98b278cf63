"""Features → Head: one file per kind of head, one line each in `HEADS`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from tledge.errors import TledgeError, did_you_mean
from tledge.heads import asked, binary, centroid, folds, forest, linear, mlp, multilabel, svm
from tledge.heads.layers import as_layers
from tledge.heads.ready import class_weights, ready
from tledge.heads.task import Task, labels, targets, truth
from tledge.schema import Features, Head, HeadOptions

if TYPE_CHECKING:
    import onnx

# A module of a kind has fit(task), refit(head, features, truth, repeats), where the same samples stand `repeats` times
# one after the other, probabilities(head, features) and graph(head, dimension); which of HeadOptions it USES besides
# class_weight, the packages it NEEDS, and whether it is for MULTILABEL sets.
HEADS = {
    "linear": linear,
    "binary": binary,
    "multilabel": multilabel,
    "centroid": centroid,
    "mlp": mlp,
    "svm": svm,
    "forest": forest,
}
__all__ = [
    "HEADS",
    "as_layers",
    "check",
    "check_name",
    "class_weights",
    "fit",
    "graph",
    "labels",
    "probabilities",
    "ready",
    "refit",
    "targets",
]


def check_name(kind: str) -> None:
    """Raise TledgeError unless `kind` is a kind of head."""
    if kind not in HEADS:
        raise TledgeError(f"There is no head called {kind!r}.", did_you_mean(kind, HEADS))


def check(
    kind: str, options: HeadOptions, *, classes: int | Sequence[str] | None = None, multilabel: bool | None = None
) -> None:
    """Raise TledgeError unless a head of `kind` can do what `options` ask, for as much of the data as is known yet.

    `classes` are the names of the classes or their number. Raises MissingExtra when the head needs what is not there.
    """
    check_name(kind)
    asked.check(kind, HEADS[kind], options, classes, multilabel)


def fit(
    kind: str,
    features: Features,
    classes: Sequence[str],
    options: HeadOptions,
    seed: int,
    *,
    multilabel: bool = False,
    validation: Features | None = None,
) -> Head:
    """Fit a head of `kind` to all rows of `features`.

    Strengths are chosen by cross-validation on them. `validation` calibrates, chooses thresholds and stops the training
    where it iterates; without it, rows that are held out do. Deterministic for a `seed`. Raises TledgeError where
    `check` does, DataError when there are no two different samples.
    """
    names = tuple(classes)
    check(kind, options, classes=names, multilabel=multilabel)
    aside = None
    if validation is not None and validation.samples:
        aside = validation.matrix, truth(validation, len(names), multilabel)
    known = truth(features, len(names), multilabel)
    held_out = folds.assign(features.samples, seed)
    head = HEADS[kind].fit(Task(features.matrix, known, names, held_out, options, seed, aside))
    return replace(head, facts={**head.facts, "classes": len(names)})


def refit(head: Head, *features: Features) -> Head:
    """Fit `head` to all rows of all `features`, as strongly regularised and with the thresholds as it was.

    For what another precision of the backbone makes of the same samples. Let the first be what the head was fitted to,
    where that is at hand: a head that was trained step by step is then carried over instead of trained again.
    """
    module = _module(head)
    classes = head.facts["classes"]
    known = np.concatenate([truth(each, classes, module.MULTILABEL) for each in features])
    matrix = np.concatenate([each.matrix for each in features])
    contents = {tuple(sample.digest for sample in each.samples) for each in features}
    return module.refit(head, matrix, known, len(features) if len(contents) == 1 else 1)


def probabilities(head: Head, matrix: np.ndarray) -> np.ndarray:
    """Return float32 [n, classes] of `head` on `matrix` float32 [n, dimension]."""
    return _module(head).probabilities(head, matrix)


def graph(head: Head, dimension: int) -> onnx.ModelProto:
    """Return `head` as a graph: `features` float32 [N, dimension] → `probabilities` float32 [N, classes].

    It is of opset 17; that of svm and forest also uses ai.onnx.ml.
    """
    return _module(head).graph(head, dimension)


def _module(head: Head) -> ModuleType:
    check_name(head.kind)
    return HEADS[head.kind]
