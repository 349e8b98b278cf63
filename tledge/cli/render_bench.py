"""The document of `tledge bench` for people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tledge.cli import render_box
from tledge.cli.tables import elsewhere, line, quoted, size, table
from tledge.schema import BenchResult, Latencies, MultiStream, Offline, Server, SingleStream, Validity

Rows = list[tuple[str, str]]


def bench(result: BenchResult, console: Any) -> None:
    """Show latency, throughput and the verdict."""
    setting = f"{result.provider}, {result.threads} threads, onnxruntime {result.onnxruntime}, {result.machine['cpu']}"
    line(console, f"{result.model} ({result.precision}, {size(result.bytes)}) on {setting}")
    rows = [row for name, found in result.scenarios.items() for row in _ROWS[name](found)]
    if result.real_time_factor is not None:
        rows.append(("real-time factor", f"{result.real_time_factor:.4f}"))
    rows.append(("load", f"{result.load_ms:.0f} ms"))
    if result.reference:
        rows.append(("against the fixed workload", f"{result.reference.ratio:.3f} ×"))
    rows += render_box.rows(result)
    table(console, ("scenario", ""), rows)
    _remarks(result, console)
    elsewhere(console, result)
    render_box.end_to_end(result, console)
    render_box.conditions(result, console)
    render_box.budgets(result, console)
    if result.verdict:
        verdict = result.verdict
        line(console, f"{verdict.outcome.upper()} against {verdict.against}: {verdict.reason}")
        if verdict.pairs:
            line(console, f"{verdict.pairs} pairs, {verdict.openings} openings, {verdict.seconds:.1f} s")
    else:
        line(
            console,
            f"Next: tledge bench {quoted(result.model)} --save baseline.json, and later --against baseline.json",
        )


def _single_stream(found: SingleStream) -> Rows:
    return [*_latencies("single stream", found), ("runs", str(found.samples))]


def _multi_stream(found: MultiStream) -> Rows:
    title = f"multi stream of {found.samples_per_query}"
    return [*_latencies(title, found), ("queries", str(found.queries))]


def _latencies(title: str, found: Latencies) -> Rows:
    each = {
        "p50": found.p50_ms,
        "p90": found.p90_ms,
        "p99": found.p99_ms,
        "p99.9": found.p999_ms,
        "min": found.min_ms,
        "max": found.max_ms,
    }
    return [(f"{title} {name}", f"{value:.2f} ms") for name, value in each.items() if value is not None]


def _server(found: Server) -> Rows:
    bound = f"{found.latency_bound_ms:.2f} ms"
    if found.queries_per_second is None:
        lowest = min(each.queries_per_second for each in found.tried)
        return [("server", f"no rate holds a p99 of {bound}: {found.p99_ms:.2f} ms at {lowest:.3g} samples/s")]
    rate = f"{found.queries_per_second:.1f} samples/s within a p99 of {bound}"
    return [("server", rate), ("server p99 then", f"{found.p99_ms:.2f} ms"), ("queries", str(found.queries))]


def _offline(found: Offline) -> Rows:
    rows = [("offline", f"{found.samples_per_second:.1f} samples/s at batch {found.batch_size}")]
    tried = ", ".join(f"{size}: {rate:.1f}" for size, rate in found.by_batch_size.items())
    return [*rows, ("samples/s by batch", tried)] if len(found.by_batch_size) > 1 else rows


def _remarks(result: BenchResult, console: Any) -> None:
    """Say what the figures rest on: whose rules, what was fed, and what did not go as it should."""
    judged: dict[str, list[str]] = {}
    for name, found in result.scenarios.items():
        judged.setdefault(_validity(found.validity), []).append(name.replace("_", " "))
    for said, names in judged.items():
        line(console, f"{', '.join(names)}: {said}")
    for found in result.scenarios.values():
        if isinstance(found, Offline) and found.left_out:
            line(console, f"offline: {found.left_out}")
    if result.assumed:
        line(console, f"Assumed: {', '.join(result.assumed)}")
    if result.warm_up and not result.warm_up.settled:
        line(console, f"Not steady: latency still changed after {result.warm_up.seconds:.1f} s of warm-up.")


def _validity(found: Validity | None) -> str:
    if found is None or found.valid is None:
        return found.reason if found else ""
    return f"{'VALID' if found.valid else 'INVALID'} (LoadGen {found.loadgen}): {found.reason}"


_ROWS: dict[str, Callable[[Any], Rows]] = {
    "single_stream": _single_stream,
    "multi_stream": _multi_stream,
    "server": _server,
    "offline": _offline,
}
