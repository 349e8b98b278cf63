"""`tledge bench`: how fast a model file runs here, and whether that is slower than before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tledge import __version__, documents, engine, installation, machine, measurement, places
from tledge.commands.benching import axes, load, outputs, plan
from tledge.commands.benching.label import label as labelled
from tledge.commands.benching.load import BY_DEFAULT, SCENARIOS, Load
from tledge.commands.benching.sweep import sweep as measure_sweep
from tledge.commands.clock import Clock, Progress
from tledge.commands.pipeline import now
from tledge.errors import TledgeError
from tledge.schema import BenchResult, Verdict

__all__ = ["BY_DEFAULT", "SCENARIOS", "bench"]
# Threads that spin after a run, waiting for the next, would take the cores from the other model of a pair.
_IN_PAIRS = {"session.force_spinning_stop": "1"}
_BASELINE_KEYS = ("schema_version", "machine", "provider", "threads", "scenarios")
_BASELINE_FIGURES = ("p50_ms", "p50_low_ms", "p50_high_ms")
_SECONDS = 10.0


def bench(
    model: str | Path,
    *,
    scenarios: Sequence[str] = BY_DEFAULT,
    provider: str = "auto",
    threads: int | None = None,
    seconds: float | None = None,
    samples_per_query: int = measurement.SAMPLES_PER_QUERY,
    latency_bound_ms: float | None = None,
    mlperf: bool = False,
    mlperf_logs: str | Path | None = None,
    input_file: str | Path | None = None,
    against: str | Path | None = None,
    max_regression: float = 0.05,
    sweep: str | None = None,
    plot: str | Path | None = None,
    save: str | Path | None = None,
    label: str | None = None,
    junit: str | Path | None = None,
    markdown: str | Path | None = None,
    html: str | Path | None = None,
    history: str | Path | None = None,
    force: bool = False,
    on_progress: Progress | None = None,
) -> BenchResult:
    """Measure the model file `model` for about `seconds` [10, or more for a sweep], or as long as `mlperf` asks.

    `samples_per_query` is for multi_stream, `latency_bound_ms` for server. `input_file` holds samples to feed, where
    those made up will not do; `mlperf_logs` is a new folder for the logs of MLCommons' LoadGen.
    `against` is another model file, judged in interleaved pairs, or the document of an earlier bench on this machine;
    the verdict is a regression when latency grew by more than the share `max_regression`. `sweep` names settings to
    compare instead, such as `threads,batch=1:8`, and `plot` is an SVG file for them. `save` keeps the document;
    `junit`, `markdown` and `html` write it for a CI, for a pull request and as a page, which also shows the trend of
    the documents in the folder `history`. `label` is the commit; without one, what a CI's environment says.
    Raises TledgeError for an unknown scenario, a model or baseline that cannot be used, or a place that is taken.
    """
    asked = plan.check(bench, locals()) if sweep is not None else None
    _check(threads, max_regression)
    plot = _plot(plot, asked, force)
    model = places.at(model)
    files = outputs.outputs(save=save, junit=junit, markdown=markdown, html=html, history=history)
    baseline = _baseline(places.at(against)) if against else None
    outputs.check(files, model, *([baseline] if isinstance(baseline, Path) else []), force=force)
    wanted = tuple(dict.fromkeys([*scenarios, *(("single_stream",) if isinstance(baseline, dict) else ())]))
    logs = places.at(mlperf_logs) if mlperf_logs else None
    length = _SECONDS if seconds is None else seconds
    wanted_load = Load(wanted, length, samples_per_query, latency_bound_ms, mlperf, logs)
    load.check(wanted_load)
    clock = Clock(on_progress)
    given = places.at(input_file) if input_file else None
    open_model = partial(measurement.open_subject, input_file=given)
    subject = open_model(model, provider=provider, threads=threads)
    swept = measure_sweep(asked, subject, provider, seconds, plot, clock, open_model) if asked else None
    clock.tell("Warming up", 0, 0)
    warm = None if asked else measurement.warm_up(subject)
    measured = {} if asked else load.measure(subject, wanted_load, lambda words: clock.tell(words, 0, 0))
    result = BenchResult(
        schema_version=1,
        tledge_version=__version__,
        created=now(),
        model=str(model),
        digest=subject.digest,
        bytes=subject.bytes,
        precision=subject.precision,
        provider=subject.provider,
        threads=subject.threads,
        onnxruntime=str(installation.describe()["version"]),
        machine=machine.describe(),
        load_ms=subject.load_ms,
        warmup_runs=warm.runs if warm else 0,
        scenarios=measured,
        verdict=_verdict(subject, provider, baseline, measured, str(against), max_regression, length, clock),
        label=labelled(label),
        nodes_elsewhere=subject.nodes_elsewhere,
        warm_up=warm,
        input=subject.samples.source,
        assumed=subject.samples.assumed,
        sweep=swept,
    )
    outputs.write(files, result, baseline if isinstance(baseline, dict) else None)
    return result


def _verdict(
    subject: measurement.Subject,
    provider: str,
    baseline: dict[str, Any] | Path | None,
    measured: dict[str, Any],
    against: str,
    max_regression: float,
    seconds: float,
    clock: Clock,
) -> Verdict | None:
    if baseline is None:
        return None
    if isinstance(baseline, dict):
        setting = {"provider": subject.provider, "threads": subject.threads}
        now_ = measured["single_stream"]
        return measurement.against_baseline(now_, machine.describe(), setting, baseline, against, max_regression)
    clock.tell("Comparing in pairs", 0, 0)
    provider = engine.resolved(provider, subject.session)
    given = subject.samples.source
    setting = {"provider": provider, "threads": subject.threads, "tune": _IN_PAIRS, "input_file": given}
    pair = measurement.open_subject(subject.path, **setting), measurement.open_subject(baseline, **setting)
    return measurement.against_model(*pair, max_regression, seconds)


def _baseline(path: Path) -> dict[str, Any] | Path:
    """Return the document in a .json file, or the path of a model file."""
    if path.suffix.lower() != ".json":
        return path
    document = documents.read(path, "bench document", _BASELINE_KEYS)
    single = document["scenarios"].get("single_stream") if isinstance(document["scenarios"], dict) else None
    figures = [single.get(key) for key in _BASELINE_FIGURES] if isinstance(single, dict) else [None]
    sound = isinstance(document["machine"], dict) and all(isinstance(f, float | int) and f > 0 for f in figures)
    if not sound:
        raise TledgeError(
            f"{path} holds no single_stream figures to compare with.", "Save it again with 'tledge bench --save'."
        )
    return document


def _plot(plot: str | Path | None, asked: dict[str, tuple[str, ...]] | None, force: bool) -> Path | None:
    if plot is None:
        return None
    if asked is None:
        raise TledgeError("--plot draws a sweep, and none was asked for.", "Add one, such as --sweep threads,batch.")
    plan.check_plot(places.at(plot), force=force)
    return places.at(plot)


def _check(threads: int | None, max_regression: float) -> None:
    if not 0 <= max_regression < math.inf:
        raise TledgeError(f"The largest regression must be a share of 0 or more, got {max_regression:g}.")
    if threads is not None:
        axes.check_threads(threads)
