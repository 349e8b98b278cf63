"""`--precision auto`: every precision built and measured here, and the fastest that keeps all budgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from tledge import measurement
from tledge.commands.exporting import budgets, candidate
from tledge.commands.exporting.candidate import Candidate
from tledge.commands.exporting.steps import Original, Steps
from tledge.errors import CheckFailed
from tledge.runtime import Predictor
from tledge.schema import Budgets, CandidateFigures, QuantizeOptions

_SECONDS = 3.0  # for the latency of each candidate
# Threads that spin after a run, waiting for the next, would take the cores from the other candidates.
_TUNE = {"session.force_spinning_stop": "1"}


def choose(steps: Steps, original: Original, quantizing: QuantizeOptions) -> Candidate:
    """Return the fastest candidate that keeps the budgets of `steps`; its comparison holds the table of all.

    On a CPU, where half precision is cast to float32 and back, fp16 is built only when nothing else is small enough.
    int8 that is slower than fp32 is taken only where fp32 breaks a budget. Raises CheckFailed with the table when none
    keeps them.
    """
    made = [candidate.fp32(steps, original), candidate.int8(steps, original, quantizing)]
    if steps.provider != "cpu" or not any(_fits(each, steps.limits) for each in made):
        made.insert(1, candidate.fp16(steps, original))
    made = with_latencies(made, steps)
    fitting = [each for each in made if not budgets.unmet(each.comparison, steps.limits)]
    chosen = min(fitting, key=_p50_ms, default=None)
    table = tuple(_row(each, each is chosen, _why_not(each, made, steps.limits)) for each in made)
    if chosen is None:
        raise _none_fits(made, table, steps.limits)
    _tell_slow(made, steps)
    return replace(chosen, comparison=replace(chosen.comparison, candidates=table))


def with_latencies(made: Sequence[Candidate], steps: Steps) -> list[Candidate]:
    """Return `made` with the median latency of each on this machine's provider."""
    with steps.clock.stage("measure", "Measuring latencies"), TemporaryDirectory(prefix="tledge-") as place:
        found = measurement.median_latencies_ms([_opened(each, Path(place), steps) for each in made], _SECONDS)
    return [
        replace(each, comparison=replace(each.comparison, p50_ms=p50)) for each, p50 in zip(made, found, strict=True)
    ]


def _opened(each: Candidate, place: Path, steps: Steps) -> Predictor:
    path = place / f"{each.digest}.onnx"
    path.write_bytes(each.content)
    return Predictor(path, provider=steps.provider, tune=_TUNE)


def _fits(each: Candidate, limits: Budgets) -> bool:
    return not budgets.unmet(each.comparison, replace(limits, max_latency_ms=None))


def _p50_ms(each: Candidate) -> float:
    return each.comparison.p50_ms or 0.0


def _why_not(each: Candidate, made: Sequence[Candidate], limits: Budgets) -> str:
    failed = budgets.unmet(each.comparison, limits)
    if failed:
        return ". ".join(failed)
    faster = min((other for other in made if not budgets.unmet(other.comparison, limits)), key=_p50_ms)
    return "" if faster is each else f"Slower than {faster.precision}"


def _tell_slow(made: Sequence[Candidate], steps: Steps) -> None:
    p50 = {each.precision: _p50_ms(each) for each in made}
    if p50["int8"] > p50["fp32"]:
        figures = f"{p50['int8']:.2f} against {p50['fp32']:.2f} ms"
        steps.clock.note(f"int8 is slower than fp32 on this machine's {steps.provider}: {figures} for one sample.")


def _none_fits(made: Sequence[Candidate], table: tuple[CandidateFigures, ...], limits: Budgets) -> CheckFailed:
    nearest = min(made, key=lambda each: len(budgets.unmet(each.comparison, limits)))
    said = ". ".join(budgets.unmet(nearest.comparison, limits))
    return CheckFailed(
        f"No precision keeps every budget. The nearest is {nearest.precision}: {said}. No file was written.",
        "Allow more, train on more pictures, or use a smaller backbone.",
        replace(nearest.comparison, candidates=table),
    )


def _row(each: Candidate, chosen: bool, reason: str) -> CandidateFigures:
    found = each.comparison
    worst = found.classes[0] if found.classes else None
    return CandidateFigures(
        precision=each.precision,
        float_layers=0,
        bytes=found.bytes,
        p50_ms=found.p50_ms,
        accuracy=found.accuracy.after,
        drop=100 * (found.accuracy.before - found.accuracy.after),
        errors=found.errors.after,
        error_ratio=found.errors.ratio,
        worst_class=worst.name if worst else "",
        worst_class_drop=worst.drop if worst else 0.0,
        agreement=found.parity.agreement,
        chosen=chosen,
        reason=reason,
    )
