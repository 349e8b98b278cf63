"""`--precision auto`: every precision built and measured here, and the fastest that keeps all budgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from tledge import measurement
from tledge.commands.exporting import budgets, candidate, mixed, table
from tledge.commands.exporting.candidate import Candidate
from tledge.commands.exporting.steps import Original, Steps
from tledge.errors import CheckFailed
from tledge.model.targets import TARGETS
from tledge.schema import Budgets, CandidateFigures, QuantizeOptions

SECONDS = 3.0  # for the latency of each candidate


def choose(steps: Steps, original: Original, quantizing: QuantizeOptions) -> Candidate:
    """Return the fastest candidate that keeps the budgets of `steps`; its comparison holds the table of all.

    Where int8 breaks a budget on accuracy, the one with the fewest layers in float that keeps it is a candidate too.
    On a CPU, where half precision is cast to float32 and back, fp16 is built only when nothing else is small enough.
    int8 that is slower than fp32 is taken only where fp32 breaks a budget. Raises CheckFailed with the table when none
    keeps them.
    """
    made = [candidate.fp32(steps, original), candidate.int8(steps, original, quantizing)]
    found = mixed.search(steps, original, made[1]).found
    if found and found.float_layers:
        made.append(found)
    on_gpu = steps.provider != "cpu" or TARGETS[steps.packaging.target].on_gpu
    if on_gpu or not any(_fits(each, steps.limits) for each in made):
        made.insert(1, candidate.fp16(steps, original))
    made = with_latencies(made, steps)
    chosen = fastest(made, steps.limits)
    tried = rows(made, chosen, steps.limits)
    if chosen is None:
        raise _none_fits(made, tried, steps.limits)
    _tell_where(steps)
    _tell_slow(made, steps)
    return replace(chosen, comparison=replace(chosen.comparison, candidates=tried))


def fastest(made: Sequence[Candidate], limits: Budgets) -> Candidate | None:
    """Return the candidate of the least latency among those that keep `limits`, None when none does."""
    fitting = [each for each in made if not budgets.breaches(each.comparison, limits)]
    return min(fitting, key=_p50_ms, default=None)


def rows(made: Sequence[Candidate], chosen: Candidate | None, limits: Budgets) -> tuple[CandidateFigures, ...]:
    """Return the table of all candidates, which says of each why it was not `chosen`."""
    return tuple(
        table.row(
            each.precision, each.comparison, each is chosen, _why_not(each, chosen, limits), len(each.float_layers)
        )
        for each in made
    )


def with_latencies(made: Sequence[Candidate], steps: Steps) -> list[Candidate]:
    """Return `made` with the median latency of each on this machine's provider."""
    with steps.clock.stage("measure", "Measuring latencies"), TemporaryDirectory(prefix="tledge-") as place:
        models = [_written(each, Path(place)) for each in made]
        found = measurement.median_latencies_ms(models, steps.provider, SECONDS)
    return [
        replace(each, comparison=replace(each.comparison, p50_ms=p50)) for each, p50 in zip(made, found, strict=True)
    ]


def _written(each: Candidate, place: Path) -> Path:
    path = place / f"{each.digest}.onnx"
    path.write_bytes(each.content)
    return path


def _fits(each: Candidate, limits: Budgets) -> bool:
    return not budgets.breaches(each.comparison, replace(limits, max_latency_ms=None))


def _p50_ms(each: Candidate) -> float:
    return each.comparison.p50_ms or 0.0


def _why_not(each: Candidate, chosen: Candidate | None, limits: Budgets) -> str:
    slower = "" if chosen in (None, each) else f"slower than {chosen.precision}"
    return budgets.why_not(each.comparison, limits) or slower


def _tell_where(steps: Steps) -> None:
    target = steps.packaging.target
    if TARGETS[target].on_gpu and steps.provider == "cpu":
        steps.clock.note(f"Latencies are those of this machine's cpu, not of the target {target}: choose there.")


def _tell_slow(made: Sequence[Candidate], steps: Steps) -> None:
    p50 = {each.precision: _p50_ms(each) for each in made if not each.float_layers}
    if p50["int8"] > p50["fp32"]:
        figures = f"{p50['int8']:.2f} against {p50['fp32']:.2f} ms"
        steps.clock.note(f"int8 is slower than fp32 on this machine's {steps.provider}: {figures} for one sample.")


def _none_fits(made: Sequence[Candidate], tried: tuple[CandidateFigures, ...], limits: Budgets) -> CheckFailed:
    nearest = min(made, key=lambda each: (len(budgets.breaches(each.comparison, limits)), each.comparison.bytes))
    said = budgets.in_words(budgets.breaches(nearest.comparison, limits))
    return CheckFailed(
        f"No precision keeps every budget. The nearest is {nearest.precision}: {said}. No file was written.",
        "Allow more, train on more samples, or use a smaller backbone.",
        replace(nearest.comparison, candidates=tried),
    )
