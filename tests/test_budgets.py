"""Budgets: what an export costs, told in errors and classes too, and when it costs too much."""

from __future__ import annotations

import numpy as np
import pytest

from tledge import decisions
from tledge.commands.exporting import budgets
from tledge.errors import CheckFailed, DataError, TledgeError
from tledge.heads import metrics
from tledge.schema import Budgets, Comparison

CLASSES = ("bent", "cut", "whole", "never seen")
TRUTH = np.repeat([0, 1, 2], [10, 40, 150])
ANY = 0.0


def rows(wrong: list[int]) -> np.ndarray:
    """Return probabilities that are right but for the samples `wrong`, which are taken for the next class."""
    predicted = TRUTH.copy()
    predicted[wrong] = (predicted[wrong] + 1) % 3
    return (0.1 + 0.6 * np.eye(4)[predicted]).astype(np.float32)


def compared(wrong_before: list[int], wrong_after: list[int], min_agreement: float = ANY) -> Comparison:
    before, after = rows(wrong_before), rows(wrong_after)
    scores = [metrics.evaluate(each, TRUTH, CLASSES) for each in (before, after)]
    decided = tuple(decisions.predicted(each, (), False) for each in (before, after))
    return budgets.compare("int8", *scores, decided, before - after, min_agreement)


def test_errors_and_classes_tell_what_accuracy_hides() -> None:
    found = compared([100], [100, 0, 1])
    assert found.accuracy.before - found.accuracy.after == pytest.approx(0.01)
    assert (found.errors.before, found.errors.after, found.errors.ratio) == (1, 3, 3.0)
    assert found.classes[0].name == "bent" and len(found.classes) == 3  # no sample, no recall
    worst = found.classes[0]
    assert (worst.recall_before, worst.recall_after) == (1.0, 0.8) and worst.drop == pytest.approx(20)
    budgets.check(found, Budgets(ANY, max_drop=1, max_error_ratio=3, max_class_drop=20))  # to the bound itself


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Budgets(ANY, max_drop=0.9), r"drops by 1\.00 \(0\.9950 → 0\.9850\)"),
        (Budgets(ANY, max_error_ratio=2.5), r"3\.00 times as many \(1 → 3\)"),
        (Budgets(ANY, max_class_drop=19), r"'bent' drops by 20\.00"),
    ],
)
def test_a_budget_that_is_not_kept_says_why_and_brings_the_figures(limits: Budgets, said: str) -> None:
    found = compared([100], [100, 0, 1])
    with pytest.raises(CheckFailed, match=said) as caught:
        budgets.check(found, limits)
    assert caught.value.measured == found and caught.value.exit_code == 1


def test_all_that_failed_is_told_in_one_line() -> None:
    found = compared([100], [100, 0, 1], min_agreement=1.0)
    with pytest.raises(CheckFailed) as caught:
        budgets.check(found, Budgets(1.0, 0.5, 2, 5))
    text = str(caught.value)
    assert all(each in text for each in ("--min-agreement", "--max-drop", "--max-error-ratio", "--max-class-drop"))
    assert "\n" not in text


def test_no_multiple_of_no_errors_allows_one() -> None:
    assert compared([], []).errors.ratio == 1
    budgets.check(compared([], []), Budgets(ANY, max_error_ratio=0))
    one_more = compared([], [7])
    assert one_more.errors.ratio is None
    with pytest.raises(CheckFailed, match="more than none"):
        budgets.check(one_more, Budgets(ANY, max_error_ratio=1000))
    assert compared([7], []).errors.ratio == 0


def test_without_test_samples_there_is_nothing_to_judge_by() -> None:
    with pytest.raises(DataError, match="test samples, found none") as caught:
        budgets.require_tested(0)
    assert caught.value.exit_code == 2


def test_a_bound_must_be_a_number() -> None:
    for limits in (Budgets(max_drop=float("nan")), Budgets(max_class_drop=float("inf")), Budgets(max_error_ratio=-0.1)):
        with pytest.raises(TledgeError, match="must be a number"):
            budgets.check_asked(limits)
