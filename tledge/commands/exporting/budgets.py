"""What an export may cost: both models on the same test samples, and the budgets that the difference must keep."""

from __future__ import annotations

import math

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


def check(found: Comparison, budgets: Budgets) -> None:
    """Raise CheckFailed, which carries `found`, unless all `budgets` are kept."""
    failed = unmet(found, budgets)
    if failed:
        raise CheckFailed(
            f"{'. '.join(failed)}. No file was written.",
            "Use '--precision fp32', train on more pictures, or allow more.",
            found,
        )


def unmet(found: Comparison, budgets: Budgets) -> list[str]:
    """Return what to say of each of `budgets` that is not kept, the cost of the file last."""
    return _inaccuracies(found, budgets) + _costs(found, budgets)


def _costs(found: Comparison, budgets: Budgets) -> list[str]:
    said = []
    if budgets.max_bytes is not None and found.bytes > budgets.max_bytes:
        said.append(f"The file may have {budgets.max_bytes:,} bytes at most (--max-bytes), it has {found.bytes:,}")
    most, p50 = budgets.max_latency_ms, found.p50_ms
    if most is not None and p50 is not None and p50 > most:
        said.append(f"One sample may take {most:g} ms at most (--max-latency-ms), the median here is {p50:.2f}")
    return said


def _inaccuracies(found: Comparison, budgets: Budgets) -> list[str]:
    parity, accuracy, errors = found.parity, found.accuracy, found.errors
    said = []
    if not parity.passed:
        said.append(
            f"The exported model must agree with the float model on {budgets.min_agreement:.1%} of the test samples "
            f"(--min-agreement), it agrees on {parity.agreement:.1%} of {parity.samples}"
        )
    resized = found.input_parity
    if resized is not None and not resized.passed:
        said.append(
            f"Pictures of any size must be decided on as resized ones are in {budgets.min_agreement:.1%} of the test "
            f"samples (--min-agreement), they are in {resized.agreement:.1%} of {resized.samples}"
        )
    drop = 100 * (accuracy.before - accuracy.after)
    if budgets.max_drop is not None and drop > budgets.max_drop + _ROUNDING:
        said.append(
            f"Accuracy may drop by {budgets.max_drop:g} points at most (--max-drop), it drops by {drop:.2f} "
            f"({accuracy.before:.4f} → {accuracy.after:.4f})"
        )
    # Without errors before, no multiple of them allows one.
    if budgets.max_error_ratio is not None and errors.after > budgets.max_error_ratio * errors.before + _ROUNDING:
        said.append(
            f"Errors may become {budgets.max_error_ratio:g} times as many at most (--max-error-ratio), they become "
            f"{times(errors)} ({errors.before} → {errors.after})"
        )
    if budgets.max_class_drop is not None and found.classes:
        worst = found.classes[0]
        if worst.drop > budgets.max_class_drop + _ROUNDING:
            said.append(
                f"The recall of a class may drop by {budgets.max_class_drop:g} points at most (--max-class-drop), "
                f"that of '{worst.name}' drops by {worst.drop:.2f} ({worst.recall_before:.4f} → "
                f"{worst.recall_after:.4f})"
            )
    return said


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
