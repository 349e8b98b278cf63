"""The two diagrams of the report, drawn by pygal and coloured by the page's own style sheet.

pygal, because its import and both diagrams take about 40 ms, where matplotlib takes 400 ms of a run that lasts 3 s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tledge.errors import MissingExtra
from tledge.report import words
from tledge.schema import ReliabilityBin

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    import pygal

_WIDTH, _HEIGHT = 440, 330
_DOT_RADIUS = 3, 9
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def reliability(bins: Sequence[ReliabilityBin]) -> str:
    """Return the SVG of confidence against accuracy, with the share of samples per bin behind it; empty without bins.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", figure 4.
    """
    filled = [each for each in bins if each.count]
    if not filled:
        return ""
    total = sum(each.count for each in filled)
    start = math.floor(min(each.low for each in filled) * 10 + 1e-9) / 10
    chart = _chart(x_title="Confidence of the model", y_title="Share that was right", range=(0, 1), xrange=(start, 1))
    chart.value_formatter = lambda value: words.percent(value, 0)
    chart.y_labels = [0, 0.2, 0.4, 0.6, 0.8, 1]
    chart.x_labels = [{"value": value, "label": words.percent(value, 0)} for value in _tenths(start)]
    chart.add("images", _columns(filled, total), fill=True, show_dots=False)
    chart.add("ideal", [(start, start), (1, 1)], show_dots=False)
    chart.add("model", [_point(each, total) for each in filled])
    return _svg(chart, "Reliability diagram: how often the model was right, by how confident it was")


def cross_validation(path: Sequence[tuple[float, float, float]], chosen: float) -> str:
    """Return the SVG of held-out log loss against l2 strength, the chosen one marked; empty without two points."""
    points = sorted((l2, loss, accuracy) for l2, loss, accuracy in path if l2 > 0 and math.isfinite(loss))
    if len(points) < 2:
        return ""
    chart = _chart(x_title="Regularisation strength l2", y_title="Held-out log loss (nats)")
    chart.value_formatter = "{:.4g}".format
    chart.x_labels = _ticks(points[0][0], points[-1][0])
    chart.add("all", [_strength(*point, radius=3) for point in points])
    chart.add("chosen", [_strength(*point, radius=7) for point in points if math.isclose(point[0], chosen)])
    return _svg(chart, f"Cross-validation: held-out log loss by l2 strength; {chosen:.3g} was chosen")


def _chart(**settings: Any) -> pygal.XY:
    try:
        import pygal
    except ImportError as error:
        raise MissingExtra("pygal", "train") from error
    style = pygal.style.Style(label_font_size=12, major_label_font_size=12, title_font_size=13)
    return pygal.XY(width=_WIDTH, height=_HEIGHT, show_legend=False, margin=6, margin_right=22, style=style, **settings)


def _svg(chart: pygal.XY, title: str) -> str:
    chart.add_xml_filter(lambda root: _bare(root, title))
    return chart.render(is_unicode=True, disable_xml_declaration=True)


def _bare(root: Element, title: str) -> Element:
    """Leave shapes and texts only: pygal adds scripts, styles, the date, its address and a random id."""
    root.attrib.pop("id", None)
    root.set("role", "img")
    root.set("aria-label", title)
    for child in list(root):
        if child.tag != "g":
            root.remove(child)
    for dots in root.iterfind(".//g[@class='dots']"):
        name_dot(dots)
    for layer in root.findall("g/g"):
        if layer.get("class") in ("plot text-overlay", "plot tooltip-overlay"):
            root[0].remove(layer)
    return root


def name_dot(dots: Element) -> None:
    """Turn what pygal notes for its script beside a dot into a title, which browsers show by themselves."""
    label = dots.findtext("desc[@class='label']", "")
    for note in dots.findall("desc"):
        dots.remove(note)
    title = dots.makeelement("title", {})  # pygal's elements are lxml's where that is installed
    title.text = label
    dots[0].append(title)


def _columns(bins: Sequence[ReliabilityBin], total: int) -> list[tuple[float, float]]:
    gap = 0.15 * (bins[0].high - bins[0].low)
    corners = []
    for each in bins:
        left, right, height = each.low + gap, each.high - gap, each.count / total
        corners += [(left, 0.0), (left, height), (right, height), (right, 0.0)]
    return corners


def _point(each: ReliabilityBin, total: int) -> dict[str, Any]:
    small, large = _DOT_RADIUS
    label = (
        f"{words.count(each.count)} images with a confidence of {words.percent(each.confidence)} on average: "
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
