"""The two diagrams of a training report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tledge.report import svg, words
from tledge.schema import ReliabilityBin

_DOT_RADIUS = 3, 9
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def reliability(bins: Sequence[ReliabilityBin], things: str) -> str:
    """Return the SVG of confidence against accuracy, with the share of samples per bin behind it; empty without bins.

    `things` is what a user calls the samples.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", figure 4.
    """
    filled = [each for each in bins if each.count]
    if not filled:
        return ""
    total = sum(each.count for each in filled)
    start = math.floor(min(each.low for each in filled) * 10 + 1e-9) / 10
    chart = svg.chart(
        x_title="Confidence of the model", y_title="Share that was right", range=(0, 1), xrange=(start, 1)
    )
    chart.value_formatter = lambda value: words.percent(value, 0)
    chart.y_labels = [0, 0.2, 0.4, 0.6, 0.8, 1]
    chart.x_labels = [{"value": value, "label": words.percent(value, 0)} for value in _tenths(start)]
    chart.add(things, _columns(filled, total), fill=True, show_dots=False)
    chart.add("ideal", [(start, start), (1, 1)], show_dots=False)
    chart.add("model", [_point(each, total, things) for each in filled])
    return svg.render(chart, "Reliability diagram: how often the model was right, by how confident it was")


def cross_validation(path: Sequence[tuple[float, float, float]], chosen: float) -> str:
    """Return the SVG of held-out log loss against l2 strength, the chosen one marked; empty without two points."""
    points = sorted((l2, loss, accuracy) for l2, loss, accuracy in path if l2 > 0 and math.isfinite(loss))
    if len(points) < 2:
        return ""
    chart = svg.chart(x_title="Regularisation strength l2", y_title="Held-out log loss (nats)")
    chart.value_formatter = "{:.4g}".format
    chart.x_labels = _ticks(points[0][0], points[-1][0])
    chart.add("all", [_strength(*point, radius=3) for point in points])
    chart.add("chosen", [_strength(*point, radius=7) for point in points if math.isclose(point[0], chosen)])
    return svg.render(chart, f"Cross-validation: held-out log loss by l2 strength; {chosen:.3g} was chosen")


def _columns(bins: Sequence[ReliabilityBin], total: int) -> list[tuple[float, float]]:
    gap = 0.15 * (bins[0].high - bins[0].low)
    corners = []
    for each in bins:
        left, right, height = each.low + gap, each.high - gap, each.count / total
        corners += [(left, 0.0), (left, height), (right, height), (right, 0.0)]
    return corners


def _point(each: ReliabilityBin, total: int, things: str) -> dict[str, Any]:
    small, large = _DOT_RADIUS
    label = (
        f"{words.count(each.count)} {things} with a confidence of {words.percent(each.confidence)} on average: "
        f"{words.percent(each.accuracy)} right"
    )
    radius = round(small + (large - small) * math.sqrt(each.count / total), 2)
    return {"value": (each.confidence, each.accuracy), "label": label, "node": {"r": radius}}


def _strength(l2: float, loss: float, accuracy: float, radius: int) -> dict[str, Any]:
    label = f"l2 {l2:.3g}: log loss {words.number(loss)}, accuracy {words.percent(accuracy)}"
    return {"value": (math.log10(l2), loss), "label": label, "node": {"r": radius}}


def _tenths(start: float) -> list[float]:
    step = 2 if start < 0.5 else 1
    return sorted(tenth / 10 for tenth in range(10, round(start * 10) - 1, -step))


def _ticks(low: float, high: float) -> list[dict[str, Any]]:
    """Return the powers of ten from `low` to `high`, eight or so, or these two where no two powers lie between."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if last <= first:
        return [{"value": math.log10(each), "label": f"{each:.3g}"} for each in (low, high)]
    return [{"value": k, "label": _power(k)} for k in range(first, last + 1, 1 + (last - first) // 8)]


def _power(exponent: int) -> str:
    return "10" + str(exponent).translate(_SUPERSCRIPT) if abs(exponent) > 2 else f"{10.0**exponent:g}"
