"""One rule from probabilities to classes."""

from __future__ import annotations

import numpy as np

from tledge import decisions


def test_without_thresholds_it_is_the_most_probable():
    rows = np.array([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]], np.float32)
    assert decisions.chosen(rows).tolist() == [1, 0]
    assert decisions.predicted(rows).tolist() == [[False, True, False], [True, False, False]]


def test_of_two_classes_it_is_the_second_from_its_threshold_on():
    rows = np.array([[0.75, 0.25], [0.7, 0.3], [0.1, 0.9]], np.float32)
    assert decisions.chosen(rows, (0.7, 0.3)).tolist() == [0, 1, 1]
    assert decisions.predicted(rows, (0.1, 0.9)).tolist() == [[True, False], [True, False], [False, True]]


def test_a_threshold_is_compared_in_the_precision_of_the_probabilities():
    # 0.3 as float32 lies above 0.3 as float64; the class must not depend on which of them is meant.
    for dtype in (np.float32, np.float64):
        assert decisions.chosen(np.array([[0.7, 0.3]], dtype), (0.7, 0.3)).tolist() == [1]
        assert decisions.predicted(np.array([[0.7, 0.3]], dtype), (0.7, 0.3), True).tolist() == [[True, True]]


def test_of_several_labels_it_is_any_number_of_them():
    rows = np.array([[0.2, 0.9, 0.5], [0.1, 0.1, 0.1]], np.float32)
    assert decisions.predicted(rows, (), True).tolist() == [[False, True, True], [False] * 3]
    assert decisions.predicted(rows, (0.2, 0.95, 0.1), True).tolist() == [[True, False, True], [False, False, True]]
