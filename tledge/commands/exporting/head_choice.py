"""Which head stands behind an int8 backbone: the float model's own, or that head fitted again to what int8 makes.

They are judged on int8 features of samples that neither was fitted to: the validation samples where there are any,
else, fold by fold, training samples that both were fitted without. Never on the test samples, which the choice would
make look better than they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tledge import decisions, heads
from tledge.commands import pipeline
from tledge.data.blocks import labels_of
from tledge.heads import folds
from tledge.schema import Dataset, Features, Head, HeadChoice


class Parts(NamedTuple):
    """What one precision of the backbone makes of the samples: of all, train, val and test, and of the views."""

    features: Features
    views: Features | None

    def train(self, dataset: Dataset) -> Features:
        """Return the rows to train on, those of views included."""
        return pipeline.together(pipeline.split(self.features, dataset)[0], self.views)


def choose(head: Head, exact: Parts, rounded: Parts, dataset: Dataset, seed: int) -> tuple[Head, HeadChoice]:
    """Return the head that is the more accurate behind the int8 backbone, and both accuracies.

    `exact` is what the float backbone makes of the samples, `rounded` what the int8 one does. The head that is fitted
    again is kept when they are equally accurate. Where too few samples can be held out it is kept without a judgement.
    """
    refitted = heads.refit(head, exact.train(dataset), rounded.train(dataset))
    if dataset.val:
        judged, judgements = "validation", [(head, refitted, pipeline.split(rounded.features, dataset)[1])]
    else:
        judged, judgements = "folds", _held_out(head, exact, rounded, dataset, seed)
    found = [[_right(each, rows, dataset) for each in (original, other)] for original, other, rows in judgements]
    if not found:
        return refitted, HeadChoice("refitted", judged, 0, None, None)
    original, again = np.concatenate(found, axis=1)
    kept = "original" if original.sum() > again.sum() else "refitted"
    said = HeadChoice(kept, judged, len(original), float(original.mean()), float(again.mean()))
    return (head if kept == "original" else refitted), said


def _right(head: Head, rows: Features, dataset: Dataset) -> np.ndarray:
    """Return bool [n]: does `head` decide on exactly the right labels?"""
    decided = decisions.predicted(heads.probabilities(head, rows.matrix), head.thresholds, dataset.multilabel)
    return (decided == heads.targets(rows.samples, len(dataset.classes))).all(axis=1)


def _held_out(
    head: Head, exact: Parts, rounded: Parts, dataset: Dataset, seed: int
) -> Iterator[tuple[Head, Head, Features]]:
    """Yield for each fold both heads fitted without it, and the int8 features of it."""
    samples = dataset.train
    fold = folds.assign(samples, seed)
    tested = pipeline.split(rounded.features, dataset)[0]
    for each in range(int(fold.max()) + 1):
        out = {samples[i].digest for i in np.flatnonzero(fold == each)}
        inside = [sample for sample in samples if sample.digest not in out]
        if {label for sample in inside for label in labels_of(sample)} != _labels(dataset):
            continue  # heads that never saw a class say nothing of those that did
        own, both = (_without(parts.train(dataset), out) for parts in (exact, rounded))
        rows = pipeline.rows(tested, np.flatnonzero(fold == each))
        yield heads.refit(head, own), heads.refit(head, own, both), rows


def _labels(dataset: Dataset) -> set[int]:
    return {label for sample in dataset.train for label in labels_of(sample)}


def _without(features: Features, digests: set[str]) -> Features:
    kept = [i for i, sample in enumerate(features.samples) if sample.digest not in digests]
    return pipeline.rows(features, np.array(kept, np.int64))
