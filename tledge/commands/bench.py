"""`tledge bench`: how fast a model file runs here, and whether that is slower than before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tledge import __version__, installation, machine, measurement, places
from tledge.commands.benching import axes, budgets, judging, load, on_box, outputs, plan
from tledge.commands.benching.label import label as labelled
from tledge.commands.benching.load import BY_DEFAULT, SCENARIOS, Load
from tledge.commands.benching.sweep import sweep as measure_sweep
from tledge.commands.clock import Clock, Progress
from tledge.commands.pipeline import now
from tledge.errors import TledgeError
from tledge.measurement.box import conditions
from tledge.schema import BenchResult, BoxBudgets

__all__ = ["BY_DEFAULT", "SCENARIOS", "bench"]
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
    p99: bool = False,
    allow_other_machine: bool = False,
    end_to_end: bool = False,
    samples: str | Path | None = None,
    cold_start: bool = False,
    resources: bool = False,
    max_p50_ms: float | None = None,
    max_p99_ms: float | None = None,
    min_throughput: float | None = None,
    max_memory_mb: float | None = None,
    max_cold_start_ms: float | None = None,
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
    """Measure the model file `model` for about `seconds`, after a warm-up; with `mlperf`, as long as its rules ask.

    `samples_per_query` is for multi_stream, `latency_bound_ms` for server. `input_file` holds samples to feed, where
    those made up will not do; `mlperf_logs` is a new folder for the logs of MLCommons' LoadGen.

    `against` is another model file, judged in interleaved pairs, or the document of an earlier bench on this machine,
    or any with `allow_other_machine`. The verdict is a regression when the median latency grew by more than the share
    `max_regression`; with `p99`, when the 99th percentile did too. `seconds` bounds the verdict then, and the scenarios
    take ten of them at most.

    `end_to_end` measures from sample files to labels: those at `samples`, or made up ones. `cold_start` and `resources`
    measure processes of their own. The next five are BoxBudgets; one of a thing that was not asked for has it measured.
    They are judged in the document, nothing is raised when one does not hold. `sweep` names settings to compare
    instead of all this, such as `threads,batch=1:8`, and `plot` is an SVG file for them.

    `save` keeps the document; `junit`, `markdown` and `html` write it for a CI, for a pull request and as a page, which
    also shows the trend of the documents in the folder `history`. `label` is the commit; without one, what a CI's
    environment says. Raises TledgeError for an unknown scenario, a model or baseline that cannot be used, or a place
    that is taken.
    """
    asked = plan.check(bench, locals()) if sweep is not None else None
    if threads is not None:
        axes.check_threads(threads)
    limits = BoxBudgets(max_p50_ms, max_p99_ms, min_throughput, max_memory_mb, max_cold_start_ms)
    budgets.check_asked(limits)
    plot, model = _plot(plot, asked, force), places.at(model)
    judge_by = judging.asked(
        places.at(against) if against else None, max_regression, p99=p99, allow_other_machine=allow_other_machine
    )
    files = outputs.outputs(save=save, junit=junit, markdown=markdown, html=html, history=history)
    outputs.check(files, model, *([judge_by.against] if isinstance(judge_by.against, Path) else []), force=force)
    length = _SECONDS if seconds is None else seconds
    wanted = Load(
        tuple(dict.fromkeys([*scenarios, *(budgets.scenarios(limits) if scenarios else ())])),
        min(length, _SECONDS) if judge_by.against else length,
        samples_per_query,
        latency_bound_ms,
        mlperf,
        places.at(mlperf_logs) if mlperf_logs else None,
    )
    load.check(wanted)
    clock = Clock(on_progress)
    open_model = partial(measurement.open_subject, input_file=places.at(input_file) if input_file else None)
    subject = open_model(model, provider=provider, threads=threads)
    if asked:
        measured = {"sweep": measure_sweep(asked, subject, provider, seconds, plot, clock, open_model)}
    else:
        beside = on_box.plan(
            subject, limits, end_to_end=end_to_end, samples=samples, cold_start=cold_start, resources=resources
        )
        measured = _measured(subject, provider, wanted, beside, judge_by, length, clock)
    result = _document(subject, labelled(label), measured)
    result = replace(result, budgets=budgets.judge(limits, result))
    outputs.write(files, result, judge_by.document)
    return result


def _measured(
    subject: measurement.Subject,
    provider: str,
    wanted: Load,
    beside: on_box.Plan,
    judge_by: judging.Judging,
    seconds: float,
    clock: Clock,
) -> dict[str, Any]:
    """Return the parts of the document that are measured when it is no sweep."""

    def tell(words: str) -> None:
        clock.tell(words, 0, 0)

    tell("Warming up")
    warm, watch = measurement.warm_up(subject), conditions.begin()
    scenarios = load.measure(subject, wanted, tell)
    verdict, reference = judging.judge(subject, provider, judge_by, seconds, tell)
    share = wanted.seconds / len(wanted.scenarios)
    return {
        "warmup_runs": warm.runs,
        "warm_up": warm,
        "scenarios": scenarios,
        "real_time_factor": load.real_time_factor(subject, scenarios),
        "verdict": verdict,
        "reference": reference,
        **on_box.measure(beside, subject, provider, share, clock),
        "conditions": on_box.end(watch, scenarios),
    }


def _document(subject: measurement.Subject, label: str | None, measured: dict[str, Any]) -> BenchResult:
    facts = {
        "schema_version": 1,
        "tledge_version": __version__,
        "created": now(),
        "label": label,
        "model": str(subject.path),
        "digest": subject.digest,
        "bytes": subject.bytes,
        "precision": subject.precision,
        "provider": subject.provider,
        "threads": subject.threads,
        "onnxruntime": str(installation.describe()["version"]),
        "machine": machine.describe(),
        "load_ms": subject.load_ms,
        "nodes_elsewhere": subject.nodes_elsewhere,
        "input": subject.samples.source,
        "assumed": subject.samples.assumed,
    }
    nothing = {"warmup_runs": 0, "scenarios": {}, "verdict": None}
    return BenchResult(**facts, **{**nothing, **measured})


def _plot(plot: str | Path | None, asked: dict[str, tuple[str, ...]] | None, force: bool) -> Path | None:
    if plot is None:
        return None
    if asked is None:
        raise TledgeError("--plot draws a sweep, and none was asked for.", "Add one, such as --sweep threads,batch.")
    plan.check_plot(places.at(plot), force=force)
    return places.at(plot)
