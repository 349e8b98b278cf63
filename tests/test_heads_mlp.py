"""The head that is trained in Keras, in a process of its own. Every training takes seconds: few, and shared."""

from __future__ import annotations

import numpy as np
import pytest
from test_heads_kinds import NAMES, accuracy, draw, fit, run_graph

from tledge import heads
from tledge.errors import TledgeError
from tledge.heads import dense, training
from tledge.schema import Features, Head

CLASSES = 3


@pytest.fixture(scope="module")
def stopped() -> Head:
    """Two hidden layers, for as long as rows held aside say; weighted. Not to be changed."""
    options = {"hidden": (16, 8), "dropout": 0.2, "learning_rate": 0.01, "class_weight": "balanced"}
    return fit("mlp", draw(150, CLASSES, spread=1.5), CLASSES, **options)


@pytest.fixture(scope="module")
def asked() -> Head:
    """One hidden layer with dropout, trained for exactly as many epochs as asked for. Not to be changed."""
    options = {"hidden": (8,), "dropout": 0.3, "optimizer": "sgd", "epochs": 5, "batch_size": 16}
    return fit("mlp", draw(150, CLASSES), CLASSES, **options)


def test_the_layers_are_as_asked_for_and_stop_in_time(stopped):
    shapes = [weights.shape for weights, _ in dense.layers_of(stopped)]
    assert shapes == [(12, 16), (16, 8), (8, CLASSES)]
    assert 1 < stopped.facts["epochs"] < 200
    assert accuracy(stopped, draw(90, CLASSES, seed=1, spread=1.5)) > 0.7


@pytest.mark.parametrize("name", ["stopped", "asked"])
def test_the_graph_gives_what_the_head_gives(name, request):
    head, test = request.getfixturevalue(name), draw(50, CLASSES, seed=2)
    rows = heads.probabilities(head, test.matrix)
    np.testing.assert_allclose(run_graph(head, test.matrix), rows, atol=1e-5)


def test_epochs_that_are_asked_for_are_trained_and_not_calibrated(asked):
    assert [asked.facts[name] for name in ("epochs", "temperature", "learning_rate")] == [5, 1.0, 0.01]


def test_validation_stops_and_calibrates_features_of_any_size():
    # In units of their own: a thousand times as large, far from zero.
    near, far = draw(120, CLASSES), draw(60, CLASSES, seed=1)
    wide = [Features(each.samples, each.matrix * 1000 + 5000, 0, 0) for each in (near, far)]
    head = fit("mlp", wide[0], CLASSES, validation=wide[1], hidden=(), learning_rate=0.01)
    assert [weights.shape for weights, _ in dense.layers_of(head)] == [(12, CLASSES)]
    assert accuracy(head, wide[1]) > 0.8
    assert head.facts["epochs"] < 200


def test_another_precision_is_carried_over_without_training(stopped):
    features, test = draw(150, CLASSES, spread=1.5), draw(90, CLASSES, seed=1, spread=1.5)

    def seen(matrix: np.ndarray, seed: int) -> np.ndarray:
        noise = np.random.default_rng(seed).normal(0, 0.05, matrix.shape)
        return (matrix * np.linspace(0.5, 2, 12) + np.linspace(-3, 3, 12) + noise).astype(np.float32)

    other = Features(features.samples, seen(features.matrix, 0), 0, 0)
    moved = heads.refit(stopped, features, other)
    rows = heads.probabilities(stopped, test.matrix)
    found = heads.probabilities(moved, seen(test.matrix, 1))
    assert (found.argmax(axis=1) == rows.argmax(axis=1)).mean() > 0.95
    assert np.abs(found - rows).mean() < 0.02
    assert (moved.facts, moved.thresholds) == (stopped.facts, stopped.thresholds)


def test_without_what_it_was_fitted_to_it_is_trained_again_and_gives_the_same(asked):
    again = heads.refit(asked, draw(150, CLASSES))
    assert again.facts == asked.facts
    for name, array in asked.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)


def test_training_that_goes_out_of_bounds_is_one_line():
    with pytest.raises(TledgeError, match="did not settle") as error:
        fit("mlp", draw(60, CLASSES), CLASSES, hidden=(4,), epochs=4, optimizer="sgd", learning_rate=1e30)
    assert error.value.hint == "Use a lower --learning-rate."


def test_a_process_that_dies_is_one_line_and_its_words_a_note(monkeypatch):
    monkeypatch.setattr(training, "PROGRAM", "tledge.heads.no_such_program")
    with pytest.raises(TledgeError, match=r"stopped with exit code 1: .*no_such_program") as error:
        heads.fit("mlp", draw(30, 2), NAMES[:2], heads.HeadOptions(epochs=1), 0)
    assert "\n" not in str(error.value)
    assert "no_such_program" in error.value.__notes__[0]
