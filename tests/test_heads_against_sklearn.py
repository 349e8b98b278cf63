"""Heads and figures against scikit-learn, on the same objective."""

from __future__ import annotations

import numpy as np
import pytest
from test_heads_kinds import NAMES, draw, draw_several, features_of, fit

from tledge import decisions, heads
from tledge.heads import calibration, centroid, metrics, ranking, regression
from tledge.schema import HeadOptions


def scaled(features: np.ndarray, like: np.ndarray) -> np.ndarray:
    mean, scale = regression.standardisation(like)
    return (features.astype(np.float64) - mean) / scale


def logits_of(rows: np.ndarray) -> np.ndarray:
    """Return logits that differ by what those of `rows`, probabilities, differ by."""
    logs = np.log(np.maximum(rows.astype(np.float64), 1e-30))
    return logs - logs.mean(axis=1, keepdims=True)


@pytest.mark.parametrize("weight", ["none", "balanced"])
def test_linear_and_binary_are_logistic_regression(weight):
    from sklearn.linear_model import LogisticRegression

    features, test = draw(150, 2, spread=2), draw(60, 2, seed=1, spread=2)
    uneven = [i for i in range(150) if i % 2 == 0 or i % 6 == 1]
    truth = heads.labels(features.samples)[uneven]
    few = features_of(features.matrix[uneven], truth)
    for kind, share in (("linear", 2.0), ("binary", 2.0)):
        head = fit(kind, few, 2, class_weight=weight)
        # Two columns of weights share the penalty: it is half of what it is on their difference.
        strength = share / (head.facts["l2"] * len(truth))
        model = LogisticRegression(C=strength, tol=1e-10, class_weight=None if weight == "none" else weight)
        model.fit(scaled(few.matrix, few.matrix), truth)
        wanted = model.decision_function(scaled(test.matrix, few.matrix)) / head.facts["temperature"]
        found = heads.probabilities(head, test.matrix)[:, 1]
        np.testing.assert_allclose(found, calibration.sigmoid(wanted), atol=5e-3)


def test_multilabel_is_a_logistic_regression_per_class():
    from sklearn.linear_model import LogisticRegression

    features, test = draw_several(200, 3), draw_several(80, 3, seed=1)
    truth = heads.targets(features.samples, 3)
    head = heads.fit("multilabel", features, NAMES[:3], HeadOptions("balanced"), 0, multilabel=True)
    rows = heads.probabilities(head, test.matrix)
    for column, wanted in zip(rows.T, truth.T, strict=True):
        model = LogisticRegression(C=1 / (head.facts["l2"] * 200), tol=1e-10, class_weight="balanced")
        model.fit(scaled(features.matrix, features.matrix), wanted)
        logits = model.decision_function(scaled(test.matrix, features.matrix)) / head.facts["temperature"]
        np.testing.assert_allclose(column, calibration.sigmoid(logits), atol=1e-2)


@pytest.mark.parametrize(("count", "dimension"), [(90, 8), (24, 60)], ids=["tall", "wide"])
def test_centroid_is_discriminant_analysis_with_the_shrinkage_of_ledoit_and_wolf(count, dimension):
    from sklearn.covariance import ledoit_wolf_shrinkage
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    features, test = draw(count, 3, dimension), draw(40, 3, dimension, seed=1)
    truth = heads.labels(features.samples)
    x = scaled(features.matrix, features.matrix)
    weights, bias, shrinkage = centroid._discriminants(features.matrix, truth, 3, "none")
    rest = x - np.stack([x[truth == label].mean(axis=0) for label in range(3)])[truth]
    assert shrinkage == pytest.approx(ledoit_wolf_shrinkage(rest, assume_centered=True), rel=1e-4)
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(x, truth)
    wanted = model.predict_proba(scaled(test.matrix, features.matrix))
    np.testing.assert_allclose(calibration.softmax(test.matrix @ weights + bias), wanted, atol=1e-3)


def test_centroid_of_one_sample_per_class_is_the_nearest_mean():
    few, test = draw(4, 4, spread=0.5), draw(100, 4, seed=1, spread=2)
    rows = heads.probabilities(fit("centroid", few, 4), test.matrix)
    x, means = scaled(test.matrix, few.matrix), scaled(few.matrix, few.matrix)
    nearest = np.square(x[:, None] - means).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(rows.argmax(axis=1), nearest)
    assert heads.probabilities(fit("centroid", few, 4), few.matrix).max(axis=1).min() > 0.8


@pytest.mark.parametrize("classes", [2, 4])
def test_svm_has_the_decision_values_of_scikit_learn(classes):
    from sklearn.svm import SVC

    features, test = draw(120, classes, spread=2), draw(60, classes, seed=1, spread=2)
    head = fit("svm", features, classes)
    facts = head.facts
    train, given = features.matrix, test.matrix
    if facts["scaled"]:
        train, given = scaled(train, train), scaled(given, train)
    gamma = 1 / (12 * train.var())
    c = facts["c"] * (gamma if facts["kernel"] == "linear" else 1)
    model = SVC(C=c, kernel=facts["kernel"], gamma=gamma, decision_function_shape="ovo")
    values = model.fit(train, heads.labels(features.samples)).decision_function(given)
    if classes == 2:
        wanted = np.stack([-values, values], axis=1)
    else:
        wanted, pair = np.zeros((60, classes)), 0
        for first in range(classes):
            for second in range(first + 1, classes):
                wanted[:, first] += values[:, pair] * 2 / classes
                wanted[:, second] -= values[:, pair] * 2 / classes
                pair += 1
    rows = heads.probabilities(head, test.matrix)
    np.testing.assert_allclose(rows, calibration.softmax(wanted / facts["temperature"]), atol=1e-3)
    assert (rows.argmax(axis=1) == model.predict(given)).mean() >= 0.85


def test_forest_has_the_shares_of_scikit_learn():
    from sklearn.ensemble import RandomForestClassifier

    features, test = draw(120, 3, spread=2), draw(60, 3, seed=1, spread=2)
    head = fit("forest", features, 3)
    model = RandomForestClassifier(head.facts["trees"], random_state=3)
    model.fit(features.matrix, heads.labels(features.samples))
    shares = np.maximum(model.predict_proba(test.matrix), 0.5 / head.facts["trees"])
    wanted = calibration.softmax(np.log(shares) / head.facts["temperature"])
    np.testing.assert_allclose(heads.probabilities(head, test.matrix), wanted, atol=1e-4)


# ── Figures ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("digits", [1, 6], ids=["many ties", "few ties"])
def test_areas_under_curves(digits):
    from sklearn.metrics import average_precision_score, roc_auc_score

    rng = np.random.default_rng(0)
    truth = rng.uniform(size=200) < 0.3
    scores = np.round(np.clip(truth * 0.2 + rng.uniform(size=200) * 0.8, 0, 1), digits)
    assert ranking.roc_auc(scores, truth) == pytest.approx(roc_auc_score(truth, scores))
    assert ranking.average_precision(scores, truth) == pytest.approx(average_precision_score(truth, scores))
    assert ranking.roc_auc(scores, np.ones(200, bool)) is None
    assert ranking.average_precision(scores, np.zeros(200, bool)) is None


def test_figures_of_two_classes_respect_the_threshold():
    from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score, roc_auc_score

    rng = np.random.default_rng(1)
    truth = (rng.uniform(size=300) < 0.2).astype(np.int64)
    second = np.clip(truth * 0.3 + rng.uniform(size=300) * 0.6, 0, 1)
    rows = np.stack([1 - second, second], axis=1)
    found = metrics.evaluate(rows, truth, ("no", "yes"), (0.65, 0.35))
    said = (second >= 0.35).astype(int)
    np.testing.assert_array_equal(found.confusion, confusion_matrix(truth, said))
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(truth, said))
    assert found.per_class[1].f1 == pytest.approx(f1_score(truth, said))
    assert found.roc_auc == pytest.approx(roc_auc_score(truth, second))
    assert metrics.evaluate(rows, np.zeros(300, int), ("no", "yes")).roc_auc is None
    # Confidence is that of the class that is predicted, so a bold threshold is no miscalibration by itself.
    bins = metrics.reliability(rows, truth, (0.65, 0.35))
    assert min(each.confidence for each in bins) < 0.45
    assert sum(each.count for each in bins) == 300


def test_figures_of_several_labels():
    from sklearn.metrics import (
        accuracy_score,
        average_precision_score,
        f1_score,
        hamming_loss,
        log_loss,
        precision_score,
        recall_score,
    )

    rng = np.random.default_rng(2)
    truth = rng.uniform(size=(150, 3)) < (0.2, 0.5, 0.7)
    rows = np.clip(truth * 0.4 + rng.uniform(size=truth.shape) * 0.6, 0.01, 0.99)
    bars = (0.5, 0.45, 0.6)
    said = decisions.predicted(rows, bars, True)
    found = metrics.evaluate(rows, truth, ("a", "b", "c"), bars, multilabel=True)
    assert found.accuracy == pytest.approx(accuracy_score(truth, said))
    assert found.hamming_loss == pytest.approx(hamming_loss(truth, said))
    assert found.macro_f1 == pytest.approx(f1_score(truth, said, average="macro"))
    assert found.macro_precision == pytest.approx(precision_score(truth, said, average="macro"))
    assert found.macro_recall == pytest.approx(recall_score(truth, said, average="macro"))
    assert found.mean_average_precision == pytest.approx(average_precision_score(truth, rows, average="macro"))
    assert found.log_loss == pytest.approx(np.mean([log_loss(t, p) for t, p in zip(truth.T, rows.T, strict=True)]))
    first = found.per_class[0]
    assert (first.support, first.predicted) == (truth[:, 0].sum(), said[:, 0].sum())
    assert first.correct == (truth[:, 0] & said[:, 0]).sum()
    assert (found.confusion, found.roc_auc) == ((), None)


def test_a_label_that_no_sample_has_counts_in_no_average():
    truth = np.array([[True, False], [False, False]])
    found = metrics.evaluate(np.array([[0.9, 0.8], [0.2, 0.1]]), truth, ("a", "b"), (), multilabel=True)
    assert (found.macro_f1, found.mean_average_precision, found.balanced_accuracy) == (1, 1, 1)
    assert (found.per_class[1].average_precision, found.per_class[1].predicted) == (None, 1)
    assert found.accuracy == 0.5
    nothing = metrics.evaluate(np.full((2, 2), 0.1), np.zeros((2, 2), bool), ("a", "b"), (), multilabel=True)
    assert (nothing.accuracy, nothing.macro_f1, nothing.mean_average_precision) == (1, 0, None)


@pytest.mark.parametrize("measure", ["f1", "balanced_accuracy"])
def test_the_threshold_is_the_best_of_all(measure):
    from sklearn.metrics import balanced_accuracy_score, f1_score

    rng = np.random.default_rng(3)
    truth = rng.uniform(size=80) < 0.25
    scores = np.round(np.clip(truth * 0.25 + rng.uniform(size=80) * 0.7, 0, 1), 2).astype(np.float32)
    bar = calibration.threshold(scores, truth, measure)
    judge = f1_score if measure == "f1" else balanced_accuracy_score
    best = max(judge(truth, scores >= other) for other in np.linspace(0, 1, 201, dtype=np.float32))
    assert judge(truth, scores >= np.float32(bar)) == pytest.approx(best)
    assert calibration.threshold(scores, np.ones(80, bool), measure) is None


def test_the_temperature_is_found_where_it_is_known():
    rng = np.random.default_rng(4)
    logits = rng.normal(0, 2, (4000, 3))
    shares = calibration.softmax(logits)
    truth = (rng.uniform(size=(4000, 1)) > shares.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    assert calibration.temperature(logits * 3, truth) == pytest.approx(3, rel=0.08)
    assert calibration.temperature(logits / 2, truth) == pytest.approx(0.5, rel=0.08)
    # Right already: what little could be gained by chance is left.
    assert calibration.temperature(logits, truth) == pytest.approx(1, abs=0.06)
    # A handful of rows, all of them right, is no reason to be sure of everything.
    assert calibration.temperature(np.eye(3) * 2, np.arange(3)) > 0.4
    assert calibration.temperature(np.empty((0, 3)), np.empty(0, int)) == 1
