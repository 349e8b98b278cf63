"""What an export may cost: both models on the same test samples, and the budgets that the difference must keep."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from tledge.errors import CheckFailed, DataError, TledgeError
from tledge.schema import AccuracyChange, Budgets, ClassChange, Comparison, ErrorChange, InputParity, Metrics, Parity

_ROUNDING = 1e-9  # points that come of subtracting two shares, and are no drop


def check_asked(budgets: Budgets) -> None:
    """Raise TledgeError unless `budgets` can be judged at all."""
    if not 0 <= budgets.min_agreement <= 1:
        found = f"{100 * budgets.min_agreement:g}"
        raise TledgeError(f"The least agreement must lie between 0 and 100 %, got {found} %.")
    for name, points in (("drop", budgets.max_drop), ("drop of a class", budgets.max_class_drop)):
        if points is not None and not math.isfinite(points):
            raise TledgeError(f"The largest {name} must be a number of points, got {points}.")
    ratio = budgets.max_error_ratio
    if ratio is not None and not (math.isfinite(ratio) and ratio >= 0):
        raise TledgeError(f"The largest ratio of errors must be a number from 0 up, got {ratio}.", "Use 1.5.")
    for name, most in (("size", budgets.max_bytes), ("latency", budgets.max_latency_ms)):
        if most is not None and not (math.isfinite(most) and most > 0):
            raise TledgeError(f"The largest {name} must be a number above 0, got {most:g}.")


def require_tested(count: int) -> None:
    """Raise DataError when there are no test samples: no budget can be judged then."""
    if not count:
        raise DataError("Budgets are judged on test samples, found none.", "Train with --test-data, or a test split.")


def compare(
    precision: str,
    before: Metrics,
    after: Metrics,
    decisions: tuple[np.ndarray, np.ndarray],
    change: np.ndarray,
    min_agreement: float,
) -> Comparison:
    """Compare the float model (`before`) with the exported one (`after`) on the same test samples, at least one.

    `decisions` are those of both, bool [n, classes], `change` that of the probabilities, float32 [n, classes].
    """
    agreement, difference = float((decisions[0] == decisions[1]).all(axis=1).mean()), np.abs(change)
    count = len(change)
    return Comparison(
        schema_version=1,
        precision=precision,
        accuracy=AccuracyChange(before.accuracy, after.accuracy),
        errors=error_change(*(round(count * (1 - each.accuracy)) for each in (before, after))),
        classes=_class_changes(before, after),
        parity=Parity(
            count, agreement, float(difference.max()), float(difference.mean()), passed=agreement >= min_agreement
        ),
    )


def input_parity(
    decisions: tuple[np.ndarray, np.ndarray], change: np.ndarray, pixels: tuple[float, float], min_agreement: float
) -> InputParity:
    """Compare a model behind tledge's own resize with the same behind that of its graph, as in `compare`.

    `pixels` are the largest and the mean difference of a grey level.
    """
    agreement, difference = float((decisions[0] == decisions[1]).all(axis=1).mean()), np.abs(change)
    figures = float(difference.max()), float(difference.mean()), *pixels
    return InputParity(len(change), agreement, *figures, passed=agreement >= min_agreement)


def error_change(before: int, after: int) -> ErrorChange:
    """Return both counts and their ratio: 1 when neither erred, None when only the later one did."""
    if before:
        return ErrorChange(before, after, after / before)
    return ErrorChange(before, after, None if after else 1.0)


class Breach(NamedTuple):
    """A budget that is not kept: the option that asked for it, and what to say."""

    option: str
    words: str


def check(found: Comparison, budgets: Budgets) -> None:
    """Raise CheckFailed, which carries `found`, unless all `budgets` are kept."""
    failed = breaches(found, budgets)
    if failed:
        raise CheckFailed(
            f"{in_words(failed)}. No file was written.",
            "Use '--precision fp32', train on more samples, or allow more.",
            found,
        )


def breaches(found: Comparison, budgets: Budgets) -> list[Breach]:
    """Return which of `budgets` are not kept, those on the file's cost last."""
    tests = (_agreement, _drop, _error_ratio, _class_drop, _bytes, _latency)
    return [breach for test in tests for breach in test(found, budgets)]


def of_accuracy(budgets: Budgets) -> Budgets:
    """Return those of `budgets` that are about what the model decides, not about what it costs."""
    return replace(budgets, max_bytes=None, max_latency_ms=None)


def why_not(found: Comparison, budgets: Budgets) -> str:
    """Say in a few words which of `budgets` are not kept; nothing when all are."""
    failed = breaches(found, budgets)
    return f"breaks {', '.join(breach.option for breach in failed)}" if failed else ""


def in_words(failed: Sequence[Breach]) -> str:
    """Say all of them, without a full stop."""
    return ". ".join(each.words for each in failed)


def _agreement(found: Comparison, budgets: Budgets) -> Iterator[Breach]:
    option, parity = "--min-agreement", found.parity
    if not parity.passed:
        yield Breach(
            option,
            f"The exported model must agree with the float model on {budgets.min_agreement:.1%} of the test samples "
            f"({option}), it agrees on {parity.agreement:.1%} of {parity.samples}",
        )
    resized = found.input_parity
    if resized is not None and not resized.passed:
        yield Breach(
            option,
            f"Pictures of any size must be decided on as resized ones are in {budgets.min_agreement:.1%} of the test "
            f"samples ({option}), they are in {resized.agreement:.1%} of {resized.samples}",
        )


def _drop(found: Comparison, budgets: Budgets) -> Iterator[Breach]:
    option, accuracy = "--max-drop", found.accuracy
    drop = 100 * (accuracy.before - accuracy.after)
    if budgets.max_drop is not None and drop > budgets.max_drop + _ROUNDING:
        yield Breach(
            option,
            f"Accuracy may drop by {budgets.max_drop:g} points at most ({option}), it drops by {drop:.2f} "
            f"({accuracy.before:.4f} → {accuracy.after:.4f})",
        )


def _error_ratio(found: Comparison, budgets: Budgets) -> Iterator[Breach]:
    option, errors, most = "--max-error-ratio", found.errors, budgets.max_error_ratio
    # Without errors before, no multiple of them allows one.
    if most is not None and errors.after > most * errors.before + _ROUNDING:
        yield Breach(
            option,
            f"Errors may become {most:g} times as many at most ({option}), they become {times(errors)} "
            f"({errors.before} → {errors.after})",
        )


def _class_drop(found: Comparison, budgets: Budgets) -> Iterator[Breach]:
    option, most = "--max-class-drop", budgets.max_class_drop
    worst = found.classes[0] if found.classes else None
    if most is not None and worst and worst.drop > most + _ROUNDING:
        yield Breach(
            option,
            f"The recall of a class may drop by {most:g} points at most ({option}), that of '{worst.name}' drops by "
            f"{worst.drop:.2f} ({worst.recall_before:.4f} → {worst.recall_after:.4f})",
        )


def _bytes(found: Comparison, budgets: Budgets) -> Iterator[Breach]:
    option, most = "--max-bytes", budgets.max_bytes
    if most is not None and found.bytes > most:
        yield Breach(option, f"The file may have {most:,} bytes at most ({option}), it has {found.bytes:,}")


def _latency(found: Comparison, budgets: Budgets) -> Iterator[Breach]:
    option, most, p50 = "--max-latency-ms", budgets.max_latency_ms, found.p50_ms
    if most is not None and p50 is not None and p50 > most:
        yield Breach(option, f"One sample may take {most:g} ms at most ({option}), the median here is {p50:.2f}")


def times(errors: ErrorChange) -> str:
    """Say the ratio in words."""
    return "more than none" if errors.ratio is None else f"{errors.ratio:.2f} times as many"


def _class_changes(before: Metrics, after: Metrics) -> tuple[ClassChange, ...]:
    changes = [
        ClassChange(first.name, first.recall, second.recall, 100 * (first.recall - second.recall))
        for first, second in zip(before.per_class, after.per_class, strict=True)
        if first.support
    ]
    return tuple(sorted(changes, key=lambda each: (-each.drop, each.recall_after)))
