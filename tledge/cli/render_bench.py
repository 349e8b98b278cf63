"""The document of `tledge bench` for people."""

from __future__ import annotations

from typing import Any

from tledge.cli import render_box
from tledge.cli.tables import elsewhere, line, quoted, size, table
from tledge.schema import BenchResult


def bench(result: BenchResult, console: Any) -> None:
    """Show latency, throughput and the verdict."""
    setting = f"{result.provider}, {result.threads} threads, onnxruntime {result.onnxruntime}, {result.machine['cpu']}"
    line(console, f"{result.model} ({result.precision}, {size(result.bytes)}) on {setting}")
    rows = []
    single = result.scenarios.get("single_stream")
    if single:
        rows += [
            (f"single stream {name}", f"{getattr(single, name + '_ms'):.2f} ms")
            for name in ("p50", "p90", "p99", "min", "max")
        ]
        rows.append(("runs", str(single.samples)))
    offline = result.scenarios.get("offline")
    if offline:
        rows.append(("offline", f"{offline.samples_per_second:.1f} pictures/s at batch {offline.batch_size}"))
    rows.append(("load", f"{result.load_ms:.0f} ms"))
    rows += render_box.rows(result)
    table(console, ("scenario", ""), rows)
    elsewhere(console, result)
    render_box.end_to_end(result, console)
    render_box.conditions(result, console)
    render_box.budgets(result, console)
    if result.verdict:
        verdict = result.verdict
        line(console, f"{verdict.outcome.upper()} against {verdict.against}: {verdict.reason}")
        line(console, f"{verdict.pairs} pairs, {verdict.seconds:.1f} s")
    else:
        line(
            console,
            f"Next: tledge bench {quoted(result.model)} --save baseline.json, and later --against baseline.json",
        )
