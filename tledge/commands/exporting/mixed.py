"""int8 that breaks a budget on accuracy: the fewest layers go back to float until it keeps them all.

They go in the order of what each loses in int8 (`model.sensitivities`), not of that per MAC: on efficientnet_lite0
both left the same error for the same MACs, the first with half as many layers, and each float layer between int8 ones
also costs two conversions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from tledge.commands.exporting import budgets, candidate, table
from tledge.commands.exporting.candidate import Candidate
from tledge.commands.exporting.steps import Original, Steps
from tledge.errors import CheckFailed
from tledge.model import DYNAMIC
from tledge.schema import Budgets, CandidateFigures, Comparison, LayerSensitivity, QuantizeOptions

# Of the multiply-adds: with more of them in float, int8 could not even halve the time that float takes.
_MOST_IN_FLOAT = 0.5


class Search(NamedTuple):
    """What was tried, the fewest float layers first, and of it the one with the fewest that keeps the budgets."""

    tried: tuple[Candidate, ...]
    found: Candidate | None


def choose(steps: Steps, original: Original, quantizing: QuantizeOptions) -> Candidate:
    """Return the run's model in int8, with layers in float where the budgets of `steps` on accuracy ask for them.

    Its comparison holds the table of what was tried. Raises CheckFailed with that table when it does not help; budgets
    on size and latency are left to the caller.
    """
    tried, found = search(steps, original, candidate.int8(steps, original, quantizing))
    rows = _rows(tried, found, steps.limits) if len(tried) > 1 else ()
    if found is None:
        raise _none_keeps(replace(tried[-1].comparison, candidates=rows), steps, original)
    return replace(found, comparison=replace(found.comparison, candidates=rows))


def search(steps: Steps, original: Original, plain: Candidate) -> Search:
    """Put layers of `plain` int8 back into float, 1, 2, 4 and so on, then find the fewest by halving.

    Nothing is tried where `plain` keeps the budgets on accuracy, where it is too large already, where its ranges are
    found as it runs, and where the float model breaks them too. At most half of the multiply-adds go back.
    """
    if _decides_well(plain.comparison, steps.limits):
        return Search((plain,), plain)
    how = plain.quantization
    if how is None or how.calibration == DYNAMIC or _too_large(plain, steps.limits) or _float_breaks(steps, original):
        return Search((plain,), None)
    broken = budgets.why_not(plain.comparison, budgets.of_accuracy(steps.limits))
    steps.clock.note(f"int8 {broken}. Layers go back to float until it does not, which takes several tries.")
    tried = {0: plain}
    order = worth(steps.sensitivities(original.backbone, how))

    def keeps(count: int) -> bool:
        made = candidate.mixed(steps, original, how, order[:count])
        kept = _decides_well(made.comparison, steps.limits)
        tried[count] = made if kept else replace(made, content=b"")  # a dozen large files would fill the memory
        return kept

    found = fewest(len(order), keeps)
    return Search(tuple(tried[count] for count in sorted(tried)), None if found is None else tried[found])


def worth(layers: Sequence[LayerSensitivity]) -> tuple[str, ...]:
    """Return the names of `layers`, which stand the worst first, that may go back with those before them."""
    most, spent, names = _MOST_IN_FLOAT * sum(each.macs for each in layers), 0, []
    for each in layers:
        if spent + each.macs <= most:
            spent += each.macs
            names.append(each.name)
    return tuple(names)


def fewest(most: int, keeps: Callable[[int], bool]) -> int | None:
    """Return the least count from 1 to `most` that `keeps`, if those above it do too; None when none was found."""
    fails, holds = 0, min(1, most)
    while holds == fails or not keeps(holds):
        if holds == most:
            return None
        fails, holds = holds, min(2 * holds, most)
    while holds - fails > 1:
        middle = (fails + holds) // 2
        if keeps(middle):
            holds = middle
        else:
            fails = middle
    return holds


def _decides_well(found: Comparison, limits: Budgets) -> bool:
    """Tell whether `found` keeps all that layers in float can mend; how pictures are resized they cannot."""
    return not budgets.breaches(replace(found, input_parity=None), budgets.of_accuracy(limits))


def _too_large(made: Candidate, limits: Budgets) -> bool:
    return limits.max_bytes is not None and made.comparison.bytes > limits.max_bytes


def _float_breaks(steps: Steps, original: Original) -> bool:
    """Tell whether the float model itself breaks a budget on accuracy: it may well, when it asks for a gain."""
    decided, metrics = steps.decide(original.rows, original.head), original.metrics
    unchanged, least = np.zeros_like(original.rows), steps.limits.min_agreement
    itself = budgets.compare("fp32", metrics, metrics, (decided, decided), unchanged, least)
    return not _decides_well(itself, steps.limits)


def _rows(tried: Sequence[Candidate], found: Candidate | None, limits: Budgets) -> tuple[CandidateFigures, ...]:
    more = "" if found is None else "more layers than it takes"
    return tuple(
        table.row(
            each.precision,
            each.comparison,
            each is found,
            "" if each is found else budgets.why_not(each.comparison, budgets.of_accuracy(limits)) or more,
            len(each.float_layers),
        )
        for each in tried
    )


def _none_keeps(last: Comparison, steps: Steps, original: Original) -> CheckFailed:
    said = budgets.in_words(budgets.breaches(last, steps.limits))
    hint = "train on more samples, or allow more."
    if _float_breaks(steps, original):
        return CheckFailed(f"{said}. The float model breaks it too. No file was written.", hint.capitalize(), last)
    with_layers = f", with {last.candidates[-1].float_layers} of the layers back in float" if last.candidates else ""
    return CheckFailed(f"{said}{with_layers}. No file was written.", f"Use '--precision fp32', {hint}", last)
