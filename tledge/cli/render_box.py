"""The part of the document of `tledge bench` that is about the box, for people."""

from __future__ import annotations

from typing import Any

from tledge.cli.tables import line, size, table
from tledge.schema import BenchResult, ColdStart, EndToEnd, Resources, Stage

_STAGES = ("run", "label", "whole", "model_alone")
# What is behind an extent: the stages before these, its factor and unit for people.
_EXTENTS = {
    "pixels": (("decode", "resize"), 1e-6, "MP"),
    "seconds": (("decode",), 1, "s"),
    "tokens": (("tokenize",), 1, "tokens"),
}
_UNITS = {"ms": "ms", "mb": "MB", "throughput": "samples/s"}


def rows(result: BenchResult) -> list[tuple[str, str]]:
    """Return what cold start and resources have to show, as rows of two cells."""
    return [
        *(_cold_start(result.cold_start) if result.cold_start else ()),
        *(_resources(result.resources) if result.resources else ()),
    ]


def _cold_start(found: ColdStart) -> list[tuple[str, str]]:
    stages = f"process {found.process_ms:.0f}, imports {found.import_ms:.0f}, session {found.session_ms:.0f}"
    text = f"{found.total_ms:.0f} ms ({stages}, first run {found.first_run_ms:.0f}; files in memory)"
    built = found.engine_build_ms
    return [("cold start", text), *([("engine build", f"{built / 1000:.1f} s")] if built is not None else ())]


def _resources(found: Resources) -> list[tuple[str, str]]:
    memory = f"{size(found.peak_bytes)} at most, {size(found.steady_bytes)} steady"
    shown = [
        ("memory", f"{memory}, {size(found.imported_bytes)} without the model"),
        ("processor time", f"{1000 * found.cpu_seconds_per_inference:.2f} ms per run"),
        ("idle", f"{found.idle_cpu_seconds_per_second:.0%} of a core in {found.idle_seconds:.1f} s after the last run"),
    ]
    for each in found.energy.parts if found.energy else ():
        shown.append((f"energy of {each.part}", f"{each.joules_per_inference:.3g} J per run, {each.watts:.1f} W"))
    return [*shown, *([] if found.energy else [("energy", f"not measured: {found.energy_reason}")])]


def end_to_end(result: BenchResult, console: Any) -> None:
    """Show each stage from a sample's bytes to its label, median and p99, beside the model alone."""
    if not result.end_to_end:
        return
    stages = (*_EXTENTS[result.end_to_end[0].extent][0], *_STAGES)
    titles = ("ms, p50 (p99)", *(name.replace("_", " ") for name in stages))
    table(console, titles, [_stages(each, stages) for each in result.end_to_end])


def _stages(found: EndToEnd, stages: tuple[str, ...]) -> tuple[str, ...]:
    _, factor, unit = _EXTENTS[found.extent]
    of = f"{found.mean_extent * factor:,.1f} {unit}, {size(round(found.mean_bytes))}"
    name = found.samples if found.files == 1 else f"{found.samples}, {found.files} files"
    return (f"{name} ({of})", *(_stage(getattr(found, each)) for each in stages))


def _stage(found: Stage | None) -> str:
    return "in the graph" if found is None else f"{found.p50_ms:.2f} ({found.p99_ms:.2f})"


def conditions(result: BenchResult, console: Any) -> None:
    """Show what speaks against the figures."""
    for warning in result.conditions.warnings if result.conditions else ():
        line(console, f"note: {warning}")


def budgets(result: BenchResult, console: Any) -> None:
    """Show each budget, what was found, and whether it holds."""
    for each in result.budgets:
        bound, _, rest = each.name.partition("_")
        words, _, unit = rest.rpartition("_")
        unit = _UNITS[unit]
        holds = "holds" if each.holds else "DOES NOT HOLD"
        what = words.replace("_", " ") or rest
        line(console, f"Budget {holds}: {what} {each.found:.4g} {unit}, {bound}imum {each.limit:g} {unit}")
