"""The diagrams of a bench: how latency is distributed, how it went over time, what batches give, and history."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tledge.report import svg, words
from tledge.report.benches.figures import Document
from tledge.schema import ChangePoint, HistoryGroup

if TYPE_CHECKING:
    import pygal

_WIDE = {"width": 900, "height": 260}
_MOST_TICKS = 8


def distribution(latency: Document) -> str:
    """Return the SVG of a scenario's histogram on a logarithmic axis, p50 and p99 marked; empty without one."""
    histogram = latency.get("histogram")
    if not histogram or sum(histogram["counts"]) == 0:
        return ""
    total, edges = sum(histogram["counts"]), histogram["edges_ms"]
    shares = [count / total for count in histogram["counts"]]
    chart = _chart(x_title="Latency in ms, logarithmic", y_title="Share of runs", range=(0, max(shares)))
    chart.value_formatter = lambda value: words.percent(value, 0)
    chart.x_labels = [{"value": math.log10(each), "label": f"{each:g}"} for each in _log_ticks(edges[0], edges[-1])]
    chart.add("runs", _columns([math.log10(max(edge, 1e-6)) for edge in edges], shares), fill=True, show_dots=False)
    for name in ("p50_ms", "p99_ms"):
        at = math.log10(latency[name])
        chart.add(name, [(at, 0.0), (at, max(shares))], show_dots=False)
    return svg.render(chart, "Distribution of latency: which share of the runs took how long")


def timeline(latency: Document) -> str:
    """Return the SVG of p50 and p99 over the time of the measurement; empty without two windows."""
    windows = latency.get("timeline") or ()
    if len(windows) < 2:
        return ""
    chart = _chart(x_title="Seconds since the start", y_title="Latency in ms", include_x_axis=True)
    chart.value_formatter = "{:.3g}".format
    for name in ("p50_ms", "p99_ms"):
        label = name.removesuffix("_ms")
        chart.add(name, [_dot(each["start_s"], each[name], f"{label} {each[name]:.3g} ms") for each in windows])
    return svg.render(chart, "Latency over the time of the measurement, as p50 and p99 of each part of it")


def batches(by_batch_size: dict[str, float]) -> str:
    """Return the SVG of throughput by batch size; empty without two sizes."""
    rates = sorted((int(size), rate) for size, rate in by_batch_size.items())
    if len(rates) < 2:
        return ""
    chart = _chart(x_title="Samples at a time", y_title="Samples per second", include_x_axis=True)
    chart.value_formatter = "{:.3g}".format
    chart.x_labels = [{"value": math.log2(size), "label": str(size)} for size, _ in rates]
    chart.add("rate", [_dot(math.log2(size), rate, f"batch {size}: {rate:.4g} per second") for size, rate in rates])
    return svg.render(chart, "Throughput by batch size")


def history(group: HistoryGroup, figure: str, title: str) -> str:
    """Return the SVG of one figure over the points of `group`, levels and changes drawn in; empty without two."""
    values = [(i, getattr(point, figure)) for i, point in enumerate(group.points)]
    known = [(i, value) for i, value in values if value is not None]
    if len(known) < 2:
        return ""
    changes = [each for each in group.changes if each.figure == figure]
    chart = _chart(y_title=title, **_WIDE)
    chart.value_formatter = "{:.3g}".format
    chart.x_labels = [{"value": i, "label": _point_name(group, i)} for i in _spread([i for i, _ in known])]
    chart.add("points", [_dot(i, value, f"{_point_name(group, i)}: {value:.4g}") for i, value in known], stroke=False)
    for start, end, level in _levels(changes, known[0][0], known[-1][0] + 1):
        chart.add("level", [(start - 0.5, level), (end - 0.5, level)], show_dots=False)
    return svg.render(chart, f"{title} by commit, with {len(changes)} changes of level")


def _levels(changes: Sequence[ChangePoint], first: int, end: int) -> list[tuple[int, int, float]]:
    """Return (first point, point behind the last, value) of every level between `changes`; none without a change."""
    if not changes:
        return []
    starts = [first, *(each.index for each in changes)]
    values = [changes[0].before, *(each.after for each in changes)]
    return list(zip(starts, [*starts[1:], end], values, strict=True))


def _chart(**settings: Any) -> pygal.XY:
    return svg.chart(extra="bench", **settings)


def _dot(x: float, y: float, label: str) -> dict[str, Any]:
    return {"value": (x, y), "label": words.printable(label), "node": {"r": 3}}


def _columns(edges: Sequence[float], heights: Sequence[float]) -> list[tuple[float, float]]:
    corners = []
    for (left, right), height in zip(pairwise(edges), heights, strict=True):
        corners += [(left, 0.0), (left, height), (right, height), (right, 0.0)]
    return corners


def _log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten from `low` to `high`, or both where fewer than two lie between."""
    low = max(low, 1e-6)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    inside = [step * 10.0**power for power in powers for step in (1, 2, 5) if low <= step * 10.0**power <= high]
    return inside if len(inside) > 1 else [float(f"{each:.3g}") for each in (low, high)]


def _spread(numbers: Sequence[int]) -> list[int]:
    step = math.ceil(len(numbers) / _MOST_TICKS)
    return list(numbers[::step])


def _point_name(group: HistoryGroup, index: int) -> str:
    point = group.points[index]
    return words.printable((point.label or point.created)[:10])
