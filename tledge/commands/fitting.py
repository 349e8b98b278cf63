"""Features → Head, as a step of training: fit, measure, cross-validate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tledge import data, heads
from tledge.commands import pipeline
from tledge.schema import CrossValidation, Dataset, Features, Head, Metrics, TrainOptions


@dataclass(frozen=True)
class Fitted:
    """The head of a run, and how it did."""

    head: Head
    tested: Features
    rows: np.ndarray
    metrics: Metrics
    val_metrics: Metrics | None
    cross_validation: CrossValidation | None = None


def fit(
    dataset: Dataset, features: Features, views: Features | None, options: TrainOptions, *, tests_apart: bool
) -> Fitted:
    """Fit the head that `options` ask for to the training features and their `views`, and measure it.

    `features` are those of all samples. With folds, all samples are cross-validated, or where the test samples are a
    set of their own (`tests_apart`), those to train on.
    """
    train_part, val_part, tested = pipeline.split(features, dataset)
    head = _fit_head(dataset, pipeline.together(train_part, views), val_part, options)
    rows, scores = pipeline.score(head, tested, dataset)
    val_scores = pipeline.score(head, val_part, dataset)[1] if val_part.samples else None
    pool = train_part if tests_apart or not options.folds else pipeline.together(train_part, tested)
    folds = _cross_validate(pool, views, dataset, options) if options.folds else None
    return Fitted(head, tested, rows, scores, val_scores, folds)


def _fit_head(dataset: Dataset, features: Features, validation: Features | None, options: TrainOptions) -> Head:
    return heads.fit(
        pipeline.head_kind(options, dataset),
        features,
        dataset.classes,
        pipeline.head_options(options),
        options.seed,
        multilabel=dataset.multilabel,
        validation=validation if validation and validation.samples else None,
    )


def _cross_validate(pool: Features, views: Features | None, dataset: Dataset, options: TrainOptions) -> CrossValidation:
    """Fit to all folds of `pool` but one and measure on that one, for each.

    The pool is all samples when the test samples were drawn from them, so that every sample is tested once.
    """
    fold = data.folds.assign(pool.samples, options.folds, options.seed)
    scores = []
    for each in range(options.folds):
        inside = pipeline.rows(pool, np.flatnonzero(fold != each))
        kept = {sample.digest for sample in inside.samples}
        if views:
            own = [i for i, sample in enumerate(views.samples) if sample.digest in kept]
            inside = pipeline.together(inside, pipeline.rows(views, np.array(own, np.int64)))
        head = _fit_head(dataset, inside, None, options)
        scores.append(pipeline.score(head, pipeline.rows(pool, np.flatnonzero(fold == each)), dataset)[1])
    accuracies = [score.accuracy for score in scores]
    return CrossValidation(
        folds=options.folds,
        samples=len(pool.samples),
        accuracy_mean=float(np.mean(accuracies)),
        accuracy_std=float(np.std(accuracies, ddof=1)),
        macro_f1_mean=float(np.mean([score.macro_f1 for score in scores])),
        accuracies=tuple(accuracies),
    )
