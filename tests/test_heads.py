"""Heads: the fit against mathematics, the folds against leaks, the figures against numbers worked out by hand."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from tledge import heads, machine
from tledge.errors import DataError, TledgeError
from tledge.heads import folds, metrics, regression
from tledge.heads.calibration import softmax
from tledge.heads.lbfgs import minimize
from tledge.schema import Features, HeadOptions, Sample


def clusters(count: int, dimension: int, classes: int, seed: int = 0, spread: float = 2.0):
    """Draw features float32 [count, dimension] around one centre per class, and their labels int [count]."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centres = rng.normal(0, 1, (classes, dimension))
    scale, offset = rng.uniform(0.05, 4, dimension), rng.normal(0, 3, dimension)
    rows = (centres[labels] + rng.normal(0, spread, (count, dimension))) * scale + offset
    return rows.astype(np.float32), labels


def fold_numbers(count: int) -> np.ndarray:
    return (np.arange(count) // 7) % 5


def samples_of(*labels: int, same: tuple[int, ...] = ()) -> tuple[Sample, ...]:
    """Make one sample per label, with a digest of its own; those at the places `same` share the first one's."""
    names = [same[0] if i in same else i for i in range(len(labels))]
    digests = [hashlib.sha256(str(name).encode()).hexdigest() for name in names]
    return tuple(
        Sample(f"{i}.png", label, digest) for i, (label, digest) in enumerate(zip(labels, digests, strict=True))
    )


def fit(features: np.ndarray, labels: np.ndarray, numbers: np.ndarray, classes: int) -> regression.Regression:
    return regression.fit(features, labels, np.ones(len(labels), np.float32), numbers, classes)


def shares_of(head: regression.Regression, features: np.ndarray) -> np.ndarray:
    return softmax(features @ head.weights + head.bias)


def standardised(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Standardise as the docstring of `regression` says, in float64: x, mean, scale."""
    wide = features.astype(np.float64)
    scale = np.sqrt(wide.var(axis=0) + regression._SPREAD_FLOOR**2 * wide.var(axis=0).mean())
    return (wide - wide.mean(axis=0)) / scale, wide.mean(axis=0), scale


def objective(weights: np.ndarray, x: np.ndarray, labels: np.ndarray, l2: float) -> tuple[float, np.ndarray]:
    """The loss of the docstring of `regression` and its gradient, float64, written as plainly as can be."""
    logits = x @ weights[:-1] + weights[-1]
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    each = np.arange(len(x))
    loss = -np.log(shares[each, labels]).mean() + l2 / 2 * (weights[:-1] ** 2).sum()
    shares[each, labels] -= 1
    gradient = np.vstack([x.T @ shares, shares.sum(axis=0)]) / len(x)
    gradient[:-1] += l2 * weights[:-1]
    return loss, gradient


def optimum(x: np.ndarray, labels: np.ndarray, classes: int, l2: float) -> np.ndarray:
    """Find the minimum by Newton's method, an independent solver; a hair holds the biases, which are free together."""
    weights = np.zeros((x.shape[1] + 1, classes))
    wide = np.hstack([x, np.ones((len(x), 1))])
    ridge = np.diag(np.tile(np.r_[np.full(x.shape[1], l2), 1e-9], classes))
    for _ in range(50):
        _, gradient = objective(weights, x, labels, l2)
        if np.linalg.norm(gradient) < 1e-11:
            break
        logits = wide @ weights
        shares = softmax(logits)
        curvature = np.einsum("nk,kl->nkl", shares, np.eye(classes)) - shares[:, :, None] * shares[:, None, :]
        blocks = np.einsum("ni,nkl,nj->kilj", wide, curvature, wide, optimize=True) / len(x)
        hessian = blocks.reshape(2 * (wide.shape[1] * classes,)) + ridge
        weights -= np.linalg.solve(hessian, gradient.T.ravel()).reshape(classes, -1).T
    return weights


# ── The fit ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("count", "dimension", "classes"),
    [(120, 6, 2), (200, 5, 10), (20, 60, 3), (60, 4, 3)],
    ids=["two classes", "ten classes", "fewer samples than features", "three classes"],
)
def test_the_fit_is_the_minimum_of_the_stated_loss(count, dimension, classes):
    features, labels = clusters(count, dimension, classes)
    head = fit(features, labels, fold_numbers(count), classes)
    x, mean, scale = standardised(features)
    best = optimum(x, labels, classes, head.l2)
    lowest, slope = objective(best, x, labels, head.l2)
    assert np.linalg.norm(slope) < 1e-9
    # Put the head's weights back into standardised units, where the loss is stated.
    weights = head.weights * scale[:, None]
    found = np.vstack([weights, head.bias + mean @ head.weights.astype(np.float64)])
    loss, gradient = objective(found, x, labels, head.l2)
    assert np.linalg.norm(gradient) <= 2e-4 * max(1, loss)
    assert loss <= lowest + 1e-5
    expected = softmax(np.hstack([x, np.ones((count, 1))]) @ best)
    np.testing.assert_allclose(shares_of(head, features), expected, atol=5e-3)


def test_the_strength_is_the_one_with_the_lowest_held_out_loss():
    features, labels = clusters(150, 12, 3)
    head = fit(features, labels, fold_numbers(150), 3)
    strengths, losses, accuracies = zip(*head.path, strict=True)
    assert head.l2 == strengths[losses.index(min(losses))]
    assert list(strengths) == sorted(strengths, reverse=True)
    assert 0 < losses.index(min(losses)) < len(losses) - 1
    assert all(0 <= accuracy <= 1 for accuracy in accuracies)


def test_the_path_is_what_fitting_every_fold_by_itself_gives():
    features, labels = clusters(90, 5, 3)
    numbers = fold_numbers(90)
    head = fit(features, labels, numbers, 3)
    x, _, _ = standardised(features)
    for l2, held_out_loss, accuracy in head.path:
        shares = np.empty((90, 3))
        for fold in range(5):
            inside = numbers == fold
            weights = optimum(x[~inside], labels[~inside], 3, l2)
            shares[inside] = softmax(x[inside] @ weights[:-1] + weights[-1])
        assert held_out_loss == pytest.approx(-np.log(shares[np.arange(90), labels]).mean(), abs=1e-2)
        if l2 == head.l2:
            assert accuracy == pytest.approx((shares.argmax(axis=1) == labels).mean(), abs=2.5 / 90)


def test_rows_that_are_never_held_out_are_always_fitted():
    features, labels = clusters(100, 5, 2)
    numbers = np.where(fold_numbers(100) == 0, 0, -1)
    l2, held_out_loss, _ = fit(features, labels, numbers, 2).path[-1]
    x, _, _ = standardised(features)
    weights = optimum(x[numbers < 0], labels[numbers < 0], 2, l2)
    shares = softmax(x[numbers == 0] @ weights[:-1] + weights[-1])
    truth = shares[np.arange((numbers == 0).sum()), labels[numbers == 0]]
    assert held_out_loss == pytest.approx(-np.log(truth).mean(), abs=1e-2)


def test_a_refit_is_the_minimum_at_the_strength_that_was_chosen_before():
    features, labels = clusters(120, 6, 2)
    other, _ = clusters(120, 6, 2, seed=5)
    head = fit(features, labels, fold_numbers(120), 2)
    ones = np.ones(120, np.float32)
    weights, bias = regression.refit(other, labels, ones, head.l2, 2)
    x, mean, scale = standardised(other)
    found = np.vstack([weights * scale[:, None], bias + mean @ weights.astype(np.float64)])
    assert np.linalg.norm(objective(found, x, labels, head.l2)[1]) <= 2e-4
    # The same minimum, reached from another start.
    np.testing.assert_allclose(regression.refit(features, labels, ones, head.l2, 2)[0], head.weights, atol=1e-3)


def test_units_of_the_features_do_not_matter():
    # What a feature is measured from and by is folded into the weights; far offsets leave float32 fewer digits.
    features, labels = clusters(120, 8, 3)
    head = fit(features, labels, fold_numbers(120), 3)
    moved = fit(features * 64 + 512, labels, fold_numbers(120), 3)
    assert moved.l2 == head.l2
    np.testing.assert_allclose(shares_of(moved, features * 64 + 512), shares_of(head, features), atol=2e-3)


def test_constant_features_change_nothing():
    features, labels = clusters(100, 6, 2)
    # The scale is softened by the mean spread, so the constants are put where that mean stays: in place of nothing.
    constant = np.hstack([features, np.full((100, 6), 7, np.float32)])
    head = fit(constant, labels, fold_numbers(100), 2)
    assert np.abs(head.weights[6:]).max() == 0
    assert np.isfinite(head.bias).all()


def test_features_that_are_all_constant_give_the_share_of_each_class():
    labels = np.array([0] * 30 + [1] * 10)
    head = fit(np.full((40, 3), 5, np.float32), labels, np.arange(40) % 5, 2)
    np.testing.assert_allclose(shares_of(head, np.full((1, 3), 5, np.float32)), [[0.75, 0.25]], atol=1e-3)


def test_a_class_of_one_sample_is_learnt():
    features, labels = clusters(60, 30, 2, spread=0.3)
    labels = np.where(np.arange(60) == 59, 2, labels)
    features[59] += 9
    head = fit(features, labels, fold_numbers(60), 3)
    assert shares_of(head, features)[59].argmax() == 2
    assert np.isfinite(head.weights).all()


def test_the_order_of_rows_changes_no_more_than_rounding():
    features, labels = clusters(150, 12, 3)
    order = np.random.default_rng(1).permutation(150)
    head = fit(features, labels, fold_numbers(150), 3)
    mixed = fit(features[order], labels[order], fold_numbers(150)[order], 3)
    assert mixed.l2 == head.l2
    np.testing.assert_allclose(shares_of(mixed, features), shares_of(head, features), atol=2e-3)


def test_the_number_of_threads_changes_nothing():
    code = """
import hashlib
import numpy as np
from tledge.heads import regression
rng = np.random.default_rng(0)
labels = np.arange(600) % 4
features = (rng.normal(0, 1, (600, 320)) + np.eye(4)[labels].repeat(80, axis=1)).astype(np.float32)
head = regression.fit(features, labels, np.ones(600, np.float32), np.arange(600) // 4 % 5, 4)
print(hashlib.sha256(head.weights.tobytes() + head.bias.tobytes()).hexdigest(), head.path)
"""
    said = []
    for threads in ("1", "2", "5"):
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        child = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        said.append(child.stdout)
    assert said[0] == said[1] == said[2]


def test_the_number_of_cores_changes_nothing(monkeypatch):
    features, labels = clusters(3000, 24, 3)
    found = []
    for cores in (1, 3):
        monkeypatch.setattr(machine, "cores", lambda cores=cores: cores)
        found.append(fit(features, labels, fold_numbers(3000), 3))
    np.testing.assert_array_equal(found[0].weights, found[1].weights)
    assert found[0].path == found[1].path


def test_features_far_from_zero_lose_no_digits():
    # Years beside fractions: the spread is a few thousandths of the mean.
    features, labels = clusters(400, 8, 2)
    far = features.copy()
    far[:, ::2] += 4096
    near, moved = (fit(each, labels, fold_numbers(400), 2) for each in (features, far))
    assert near.l2 == moved.l2
    np.testing.assert_allclose(shares_of(moved, far.astype(np.float64)), shares_of(near, features), atol=5e-3)


def test_halves_are_fitted_like_single_precision():
    features, labels = clusters(300, 12, 3)
    halves = features.astype(np.float16)
    single, half = (fit(each, labels, fold_numbers(300), 3) for each in (halves.astype(np.float32), halves))
    assert single.l2 == half.l2
    np.testing.assert_allclose(half.weights, single.weights, atol=1e-3)


def test_the_caller_keeps_its_features():
    features, labels = clusters(40, 5, 2)
    before = features.copy()
    fit(features, labels, fold_numbers(40), 2)
    np.testing.assert_array_equal(features, before)


@pytest.mark.parametrize("steepness", [1.0, 1e4], ids=["gentle", "steep"])
def test_the_minimiser_finds_the_minimum_of_a_narrow_valley(steepness):
    curvature = steepness * np.logspace(0, -3, 30)
    target = np.arange(30.0)
    found = minimize(
        lambda x: (float(curvature @ (x - target) ** 2) / 2, curvature * (x - target)), np.zeros(30), tolerance=1e-9
    )
    np.testing.assert_allclose(found, target, atol=1e-4)


# ── The names ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_head_is_fitted_by_its_name():
    features, labels = clusters(60, 5, 3)
    samples = samples_of(*labels)
    head = heads.fit("linear", Features(samples, features, 0, 60), ("a", "b", "c"), HeadOptions(), seed=4)
    direct = fit(features, labels, folds.assign(samples, 4), 3)
    temperature = head.facts["temperature"]
    np.testing.assert_allclose(head.arrays["weights"], direct.weights / temperature, rtol=1e-6)
    expected = softmax((features @ direct.weights + direct.bias) / temperature)
    np.testing.assert_allclose(heads.probabilities(head, features), expected, atol=1e-5)
    assert (head.facts["l2"], head.path) == (direct.l2, direct.path)
    assert heads.labels(samples).tolist() == labels.tolist()


def test_an_unknown_head_is_answered_with_the_nearest():
    heads.check_name("linear")
    with pytest.raises(TledgeError, match="no head called 'liner'") as error:
        heads.check("liner", HeadOptions())
    assert error.value.hint.startswith("Did you mean linear?")


# ── Folds ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_folds_hold_an_equal_share_of_every_class():
    samples = samples_of(*[0] * 53, *[1] * 17, *[2] * 5)
    numbers = folds.assign(samples, 0)
    for label, count in Counter(sample.label for sample in samples).items():
        sizes = Counter(n for n, sample in zip(numbers, samples, strict=True) if sample.label == label)
        assert max(sizes.values()) - min(sizes[fold] for fold in range(5)) <= 1
        assert sum(sizes.values()) == count
    assert max(Counter(numbers).values()) - min(Counter(numbers).values()) <= 1


def test_folds_go_by_content_and_seed_and_not_by_order_or_path():
    samples = samples_of(*[0, 1] * 30)
    numbers = folds.assign(samples, 0)
    turned = tuple(Sample("elsewhere/" + sample.path, sample.label, sample.digest) for sample in reversed(samples))
    assert folds.assign(turned, 0).tolist() == numbers[::-1].tolist()
    assert folds.assign(samples, 1).tolist() != numbers.tolist()


@pytest.mark.parametrize("labels", [[0] * 40 + [1] * 40, [0, 1] * 40], ids=["one label", "two labels"])
def test_equal_pictures_share_a_fold_whatever_their_labels(labels):
    same = (3, 4, 17, 38)
    numbers = folds.assign(samples_of(*labels, same=same), 0)
    assert len(set(numbers[list(same)])) == 1


@pytest.mark.parametrize("labels", [[0, 1], [0, 1, 2], list(range(12)), [0, 0, 0, 1]], ids=str)
def test_few_pictures_leave_something_to_fit_in_every_fold(labels):
    numbers = folds.assign(samples_of(*labels), 0)
    assert set(numbers) == set(range(min(5, len(labels))))
    rows = np.random.default_rng(0).normal(size=(len(labels), 4)).astype(np.float32)
    with np.errstate(all="raise"):
        head = fit(rows, np.array(labels), numbers, max(labels) + 1)
    assert np.isfinite([step[1] for step in head.path]).all()


def test_one_picture_cannot_be_held_out():
    with pytest.raises(DataError, match="two different samples"):
        folds.assign(samples_of(0, 1, 1, same=(0, 1, 2)), 0)


def test_large_sets_hold_out_one_fifth_only():
    samples = samples_of(*range(1500))
    numbers = folds.assign(samples, 0)
    assert Counter(numbers.tolist()) == {0: 300, -1: 1200}


# ── Figures ──────────────────────────────────────────────────────────────────────────────────────────────────────────

# Rows of a: two right, one taken for b. Rows of b: one right, one taken for a. None of c; d: one, taken for c.
ROWS = np.array(
    [[0.7, 0.1, 0.1, 0.1], [0.5, 0.3, 0.1, 0.1], [0.2, 0.6, 0.1, 0.1], [0.1, 0.8, 0.1, 0.0], [0.4, 0.3, 0.2, 0.1],
     [0.1, 0.1, 0.5, 0.3]]
)  # fmt: skip
TRUTH = np.array([0, 0, 0, 1, 1, 3])


def test_figures_are_those_worked_out_by_hand():
    found = metrics.evaluate(ROWS, TRUTH, ("a", "b", "c", "d"))
    assert found.confusion == ((2, 1, 0, 0), (1, 1, 0, 0), (0, 0, 0, 0), (0, 0, 1, 0))
    assert found.accuracy == pytest.approx(3 / 6)
    by_name = {each.name: (each.precision, each.recall, each.f1, each.support) for each in found.per_class}
    assert by_name["a"] == pytest.approx((2 / 3, 2 / 3, 2 / 3, 3))
    assert by_name["b"] == pytest.approx((1 / 2, 1 / 2, 1 / 2, 2))
    assert by_name["c"] == (0, 0, 0, 0)
    assert by_name["d"] == (0, 0, 0, 1)
    # c has no samples, so averages go over a, b and d.
    assert found.macro_precision == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert found.macro_recall == found.balanced_accuracy == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert found.macro_f1 == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    truth = [0.7, 0.5, 0.2, 0.8, 0.3, 0.3]
    assert found.log_loss == pytest.approx(-sum(map(math.log, truth)) / 6)
    # Confidences 0.7 | 0.5, 0.5 | 0.6 | 0.8 | 0.4 lie in fifteenths of their own; 0.5 twice: one right, one wrong.
    gaps = [abs(0.7 - 1), 2 * abs(0.5 - 1 / 2), abs(0.6 - 0), abs(0.8 - 1), abs(0.4 - 0)]
    assert found.expected_calibration_error == pytest.approx(sum(gaps) / 6)


def test_a_perfect_prediction_has_perfect_figures():
    found = metrics.evaluate(np.eye(3)[[0, 1, 2, 1]], np.array([0, 1, 2, 1]), ("a", "b", "c"))
    assert (found.accuracy, found.macro_f1, found.log_loss, found.expected_calibration_error) == (1, 1, 0, 0)


def test_certainty_in_the_wrong_class_costs_much_but_not_infinity():
    found = metrics.evaluate(np.array([[1.0, 0.0]]), np.array([1]), ("a", "b"))
    assert found.log_loss == pytest.approx(-math.log(1e-15))
    assert found.expected_calibration_error == 1


def test_bins_are_equal_and_hold_every_sample_once():
    confidence = np.r_[np.linspace(0.5, 1, 101), 1.0]
    rows = np.stack([confidence, 1 - confidence], axis=1)
    bins = metrics.reliability(rows, np.zeros(102, int))
    assert sum(each.count for each in bins) == 102
    assert all(each.high - each.low == pytest.approx(1 / 15) for each in bins)
    assert all(each.low <= each.confidence <= each.high for each in bins)
    assert {each.accuracy for each in bins} <= {1.0, bins[0].accuracy}
    assert bins[-1].high == 1
