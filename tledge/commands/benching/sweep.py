"""`tledge bench --sweep`: a model under every combination of the settings asked for, and which of them to use."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from tledge import measurement, places
from tledge.commands.benching import precisions, settings_code
from tledge.commands.benching.plan import Plan, default_seconds, plan
from tledge.commands.benching.precisions import ModelFile
from tledge.commands.clock import Clock
from tledge.errors import TledgeError
from tledge.measurement import Measured
from tledge.report import sweeps
from tledge.schema import Sweep, SweepChoice, SweepRow

PAUSE_S = 0.05  # what presets are for shows between queries: frames at 20 a second, as benchmarks/presets.py has them
_OBJECTIVES = ("p50_ms", "samples_per_second")
_NEAR = 1.05  # times the best: beyond that, noise is no reason to prefer what looks worse


def sweep(
    asked: Mapping[str, Sequence[str]],
    subject: measurement.Subject,
    provider: str,
    seconds: float | None,
    plot: Path | None,
    clock: Clock,
    open_model: Callable[..., measurement.Subject] = measurement.open_subject,
) -> Sweep:
    """Measure the combinations of what is `asked` (by `plan.check`) of the model in `subject`, opened on `provider`.

    That takes about `seconds`, by default two for each. The SVG goes to `plot`; `open_model` opens files as
    `open_subject` does. Raises TledgeError when a value is not there, there are too many combinations, or none of
    them runs.
    """
    planned, start = plan(asked, subject, provider, open_model), time.perf_counter()
    pause_s, count = PAUSE_S if "preset" in asked else 0.0, len(planned.settings)
    tell = partial(clock.tell, f"Measuring {count} settings in turn")
    seconds = default_seconds(count) if seconds is None else seconds
    found = measurement.measure_in_turn(planned.settings, seconds, pause_s, tell, open_model)
    document = _document(planned, found, pause_s, time.perf_counter() - start)
    if plot:
        document = replace(document, plot=str(plot))
        places.write_whole(plot, sweeps.sweep_plot(document).encode())
    return document


def _document(planned: Plan, found: Sequence[Measured], pause_s: float, seconds: float) -> Sweep:
    ran = [place for place, each in enumerate(found) if not each.failed]
    if not ran:
        raise TledgeError(f"None of the {len(found)} settings runs here. The first says: {found[0].failed}")
    objectives = _objectives(planned)
    rows = [_row(each, planned.files[each.setting.model]) for each in found]
    best = measurement.front(np.array([_costs(rows[place], objectives) for place in ran]))
    for place, pareto in zip(ran, best, strict=True):
        rows[place] = replace(rows[place], pareto=bool(pareto))
    rounds = min(len(found[place].counted) for place in ran)
    choice = partial(_choice, planned, found, ran)
    return Sweep(
        axes=planned.axes,
        objectives=objectives,
        rows=tuple(rows),
        fastest=choice("p50_ms", ("cpu_ms",)),
        most=choice("ms_per_sample", ("batch", "cpu_ms")),
        leanest=choice("cpu_ms", ("p50_ms",)),
        rounds=rounds,
        pause_ms=1000 * pause_s,
        seconds=seconds,
        notes=(*planned.notes, *_too_short(rounds)),
    )


def _objectives(planned: Plan) -> tuple[str, ...]:
    with_accuracy = ("accuracy",) if precisions.accuracies(planned.files.values()) else ()
    return (*_OBJECTIVES, *with_accuracy, *(("cpu_ms_per_sample",) if "preset" in planned.axes else ()))


def _costs(row: SweepRow, objectives: Sequence[str]) -> list[float]:
    """Return the figures of `row` so that less is better."""
    more_is_better = ("samples_per_second", "accuracy")
    return [-getattr(row, name) if name in more_is_better else getattr(row, name) for name in objectives]


def _row(measured: Measured, file: ModelFile) -> SweepRow:
    setting, ran = measured.setting, not measured.failed
    return SweepRow(
        model=str(setting.model),
        precision=file.precision,
        bytes=file.bytes,
        accuracy=file.manifest.accuracy if file.manifest else None,
        provider=setting.provider,
        threads=setting.threads,
        batch=setting.batch,
        preset=setting.preset,
        queries=len(measured.times_s) if ran else 0,
        p50_ms=float(np.median(measured.p50_ms)) if ran else None,
        p99_ms=measured.p99_ms if ran else None,
        samples_per_second=1000 / float(np.median(measured.ms_per_sample)) if ran else None,
        cpu_ms_per_sample=float(np.median(measured.cpu_ms)) if ran else None,
        pareto=False,
        failed=measured.failed,
    )


def _choice(planned: Plan, found: Sequence[Measured], ran: Sequence[int], aim: str, then: Sequence[str]) -> SweepChoice:
    """Return the setting with the least of `aim`, or one that comes near it, is not told from it, and costs less.

    What costs less is what has the least of `then`.
    """
    first, same = measurement.tied([getattr(found[place], aim) for place in ran])
    limit = _NEAR * _figure(found[ran[first]], aim)
    near = [ran[each] for each in same if _figure(found[ran[each]], aim) <= limit]
    row = min(near, key=lambda place: tuple(_figure(found[place], name) for name in then))
    setting = found[row].setting
    return SweepChoice(
        row=row,
        tied=tuple(place for place in near if place != row),
        predictor=settings_code.predictor(setting) if planned.files[setting.model].manifest else "",
        onnxruntime=settings_code.onnxruntime(setting, found[row].providers),
    )


def _figure(measured: Measured, name: str) -> float:
    return measured.setting.batch if name == "batch" else float(np.median(getattr(measured, name)))


def _too_short(rounds: int) -> tuple[str, ...]:
    if rounds >= measurement.ROUNDS:
        return ()
    return (
        f"There was time for {rounds} of {measurement.ROUNDS} rounds: small differences mean nothing. "
        "Give more --seconds, or fewer values.",
    )
