"""Every kind of head: the graph that ships says what the head said, twice the same, and odd data do not break it."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from tledge import decisions, engine, heads
from tledge.errors import DataError
from tledge.heads import calibration, folds, metrics
from tledge.schema import Features, Head, HeadOptions, Sample

QUICK = ("linear", "binary", "centroid", "svm", "forest")  # mlp has tests of its own: Keras takes seconds to begin
NAMES = ("cat", "dog", "owl", "yak")


def features_of(matrix: np.ndarray, labels: np.ndarray, **facts: object) -> Features:
    samples = tuple(
        Sample(f"{i}.png", int(label), hashlib.sha256(row.tobytes() + bytes([i % 256])).hexdigest(), **facts)
        for i, (label, row) in enumerate(zip(labels, matrix, strict=True))
    )
    return Features(samples, matrix, 0, len(samples))


def draw(count: int, classes: int, dimension: int = 12, seed: int = 0, spread: float = 1.0) -> Features:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centres = np.random.default_rng(99).normal(0, 1, (classes, dimension))
    return features_of((centres[labels] + rng.normal(0, spread, (count, dimension))).astype(np.float32), labels)


def draw_several(count: int, classes: int, seed: int = 0) -> Features:
    rng = np.random.default_rng(seed)
    axes = np.random.default_rng(98).normal(0, 1, (classes, 12))
    there = rng.uniform(size=(count, classes)) < np.linspace(0.15, 0.6, classes)
    matrix = (there @ axes + rng.normal(0, 0.6, (count, 12))).astype(np.float32)
    samples = tuple(
        Sample(f"{i}.png", int(row.argmax()) if row.any() else -1, f"{i:064x}", tuple(map(int, np.flatnonzero(row))))
        for i, row in enumerate(there)
    )
    return Features(samples, matrix, 0, count)


def fit(kind: str, features: Features, classes: int, validation: Features | None = None, **options: object) -> Head:
    return heads.fit(kind, features, NAMES[:classes], HeadOptions(**options), 3, validation=validation)


def run_graph(head: Head, matrix: np.ndarray) -> np.ndarray:
    model = heads.graph(head, matrix.shape[1])
    assert next((each.domain, each.version) for each in model.opset_import) == ("", 17)
    assert model.ir_version == 8
    session = engine.open_session(model.SerializeToString(), provider="cpu")
    (given,), (taken,) = session.get_outputs(), session.get_inputs()
    assert (taken.name, taken.type, taken.shape[1:]) == ("features", "tensor(float)", [matrix.shape[1]])
    assert (given.name, given.type) == ("probabilities", "tensor(float)")
    return session.run(["probabilities"], {"features": matrix})[0]


def accuracy(head: Head, features: Features) -> float:
    rows = heads.probabilities(head, features.matrix)
    return float((decisions.chosen(rows, head.thresholds) == heads.labels(features.samples)).mean())


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("kind", QUICK)
def test_the_graph_gives_what_the_head_gives(kind, classes):
    if kind == "binary" and classes != 2:
        return
    head, test = fit(kind, draw(120, classes), classes), draw(60, classes, seed=1)
    rows = heads.probabilities(head, test.matrix)
    assert (rows.shape, rows.dtype) == ((60, classes), np.float32)
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(run_graph(head, test.matrix), rows, atol=1e-5)
    assert heads.probabilities(head, test.matrix[:0]).shape == (0, classes)
    assert accuracy(head, test) > 0.85
    json.dumps(head.facts)


@pytest.mark.parametrize("kind", QUICK)
def test_fitting_twice_gives_the_same_head(kind):
    features = draw(80, 2, spread=2)
    first, second = fit(kind, features, 2), fit(kind, features, 2)
    assert (first.facts, first.thresholds, first.path) == (second.facts, second.thresholds, second.path)
    for name, array in first.arrays.items():
        np.testing.assert_array_equal(array, second.arrays[name])


@pytest.mark.parametrize("kind", QUICK)
def test_a_refit_on_the_same_features_is_the_same_head(kind):
    features, test = draw(90, 2, spread=2), draw(50, 2, seed=1, spread=2)
    head = fit(kind, features, 2)
    again = heads.refit(head, features)
    assert (again.kind, again.thresholds) == (head.kind, head.thresholds)
    rows = heads.probabilities(head, test.matrix)
    np.testing.assert_allclose(heads.probabilities(again, test.matrix), rows, atol=5e-3)
    # Another precision of the same samples, with the first beside it.
    other = Features(features.samples, features.matrix * np.float32(1.01), 0, 90)
    moved = heads.probabilities(heads.refit(head, features, other), test.matrix)
    assert (moved.argmax(axis=1) == rows.argmax(axis=1)).mean() >= 0.9


@pytest.mark.parametrize("kind", QUICK)
def test_one_sample_per_class_is_enough(kind):
    few = draw(2, 2, spread=0.1)
    head = fit(kind, few, 2)
    assert np.isfinite(heads.probabilities(head, few.matrix)).all()
    if kind != "forest":  # a tree drawn with repetition from two rows may have seen one of them only
        assert heads.probabilities(head, few.matrix).argmax(axis=1).tolist() == [0, 1]


@pytest.mark.parametrize("kind", QUICK)
def test_constant_features_give_finite_probabilities(kind):
    flat = features_of(np.full((30, 5), 2, np.float32), np.arange(30) % 3 // 2)
    head = fit(kind, flat, 2)
    rows = heads.probabilities(head, flat.matrix)
    assert np.isfinite(rows).all()
    np.testing.assert_allclose(run_graph(head, flat.matrix), rows, atol=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in QUICK if kind != "binary"])
def test_a_class_without_samples_is_possible_and_never_predicted(kind):
    features = draw(60, 2)
    head = fit(kind, features, 3)
    rows = heads.probabilities(head, features.matrix)
    assert rows.shape == (60, 3)
    assert rows[:, 2].max() < 0.2
    np.testing.assert_allclose(run_graph(head, features.matrix), rows, atol=1e-5)


@pytest.mark.parametrize("kind", QUICK)
def test_validation_that_lacks_a_class_calibrates_all_the_same(kind):
    features = draw(60, 2, spread=2)
    one = features_of(features.matrix[::2], heads.labels(features.samples)[::2])
    head = fit(kind, features, 2, validation=one)
    assert np.isfinite(heads.probabilities(head, features.matrix)).all()
    if kind == "binary":
        assert head.thresholds == (0.5, 0.5)


@pytest.mark.parametrize("kind", ["svm", "forest"])
def test_samples_of_one_class_are_refused_in_one_line(kind):
    with pytest.raises(DataError, match="two classes at least"):
        fit(kind, draw(10, 1), 2)


@pytest.mark.parametrize("kind", QUICK)
def test_validation_sets_the_temperature(kind):
    features, fresh = draw(100, 2, spread=2.5), draw(400, 2, seed=7, spread=2.5)
    truth = heads.labels(fresh.samples)
    rows = heads.probabilities(fit(kind, features, 2, validation=fresh), fresh.matrix)
    logits = np.log(np.maximum(rows, 1e-12)).astype(np.float64)
    # No other temperature would have been better on those very rows.
    assert calibration.temperature(logits, truth) == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("kind", [kind for kind in QUICK if kind != "forest"])  # whose leaves are pure either way
def test_balance_raises_the_recall_of_the_rare_class(kind):
    both, test = draw(400, 2, spread=3), draw(400, 2, seed=5, spread=3)
    rare = [i for i, sample in enumerate(both.samples) if sample.label == 0 or i % 20 == 1]
    few = Features(tuple(both.samples[i] for i in rare), both.matrix[rare], 0, 0)
    truth = heads.labels(test.samples)
    recalls = []
    for weight in ("none", "balanced", "auto"):
        rows = heads.probabilities(fit(kind, few, 2, class_weight=weight), test.matrix)
        recalls.append(float((rows[truth == 1].argmax(axis=1) == 1).mean()))
    assert recalls[1] > recalls[0]
    assert recalls[2] == recalls[1]
    even = [heads.probabilities(fit(kind, draw(40, 2), 2, class_weight=w), test.matrix) for w in ("none", "auto")]
    np.testing.assert_array_equal(*even)


def test_groups_and_views_are_held_out_together():
    groups = [f"machine {i % 7}" for i in range(70)]
    samples = tuple(
        Sample(f"{i}.png", i % 2, f"{i // 2:064x}", group=groups[i // 2 * 2], view=("", "flip")[i % 2])
        for i in range(70)
    )
    numbers = folds.assign(samples, 0)
    for key in ("group", "digest"):
        for value in {getattr(sample, key) for sample in samples}:
            inside = {int(n) for n, sample in zip(numbers, samples, strict=True) if getattr(sample, key) == value}
            assert len(inside) == 1
    assert set(numbers) == set(range(5))
    # A chain of groups that share a picture holds together too; one single group is taken apart.
    chain = tuple(Sample(f"{i}", 0, f"{i // 2:064x}", group=f"g{(i + 1) // 2}") for i in range(6))
    assert folds.assign((*chain, Sample("x", 1, "x" * 64, group="h")), 0)[:6].tolist() == [0] * 6
    assert len(set(folds.assign(tuple(Sample(f"{i}", 0, f"{i:064x}", group="g") for i in range(9)), 0))) == 5


def test_the_binary_head_decides_by_a_threshold_of_held_out_rows():
    both, test = draw(600, 2, spread=3), draw(400, 2, seed=5, spread=3)
    rare = [i for i, sample in enumerate(both.samples) if sample.label == 0 or i % 12 == 1]
    few = Features(tuple(both.samples[i] for i in rare), both.matrix[rare], 0, 0)
    truth = heads.labels(test.samples)
    heads_by = {name: fit("binary", few, 2, positive=name) for name in (None, "cat", "dog")}
    rows = heads.probabilities(heads_by[None], test.matrix)
    np.testing.assert_array_equal(rows, heads.probabilities(heads_by["dog"], test.matrix))
    assert all(sum(head.thresholds) == pytest.approx(1) for head in heads_by.values())
    # The rare class needs a low bar for both classes to be found as often.
    assert heads_by[None].thresholds[1] < 0.4
    even = metrics.evaluate(rows, truth, ("cat", "dog"))
    tuned = metrics.evaluate(rows, truth, ("cat", "dog"), heads_by[None].thresholds)
    assert tuned.balanced_accuracy > even.balanced_accuracy
    assert heads_by["cat"].thresholds != heads_by["dog"].thresholds


def test_several_labels_are_told_apart_each_by_its_threshold():
    features, test = draw_several(300, 3), draw_several(200, 3, seed=1)
    head = heads.fit("multilabel", features, NAMES[:3], HeadOptions(), 0, multilabel=True)
    rows, truth = heads.probabilities(head, test.matrix), heads.targets(test.samples, 3)
    np.testing.assert_allclose(run_graph(head, test.matrix), rows, atol=1e-5)
    found = metrics.evaluate(rows, truth, NAMES[:3], head.thresholds, multilabel=True)
    assert found.mean_average_precision > 0.85
    assert found.macro_f1 > 0.75
    assert len(head.thresholds) == 3
    again = heads.refit(head, features)
    assert again.thresholds == head.thresholds
    np.testing.assert_allclose(heads.probabilities(again, test.matrix), rows, atol=5e-3)
    balanced = heads.fit("multilabel", features, NAMES[:3], HeadOptions("balanced"), 0, multilabel=True)
    assert heads.probabilities(balanced, test.matrix)[:, 0].mean() > rows[:, 0].mean() + 0.02


def test_a_label_that_none_or_all_have_keeps_the_even_threshold():
    features = draw_several(60, 3)
    samples = tuple(Sample(s.path, s.label, s.digest, (*s.labels, 3)) for s in features.samples)
    odd = Features(samples, features.matrix, 0, 60)
    head = heads.fit("multilabel", odd, (*NAMES, "none"), HeadOptions(), 0, multilabel=True)
    rows = heads.probabilities(head, odd.matrix)
    assert head.thresholds[3:] == (0.5, 0.5)
    assert rows[:, 3].min() > 0.5 > rows[:, 4].max()
