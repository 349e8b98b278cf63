"""The plot of a sweep: throughput against latency, a dot for each setting, the Pareto front marked.

An SVG that stands alone, drawn by pygal; it holds no script, and its styles touch nothing beside it in a page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tledge.errors import MissingExtra
from tledge.report import svg, words
from tledge.schema import Sweep, SweepRow

if TYPE_CHECKING:
    from types import ModuleType
    from xml.etree.ElementTree import Element

_WIDTH, _HEIGHT = 900, 560
_COLOURS = ("#0b6e99", "#c2571a", "#4a7d2f", "#8a4f9e", "#a88a00", "#b03060", "#2f8f8f", "#5c5c66")
_GREY, _FAINT = "#77777f", "#dddde2"
_ON_FRONT, _OFF_FRONT = 6, 3
_STEPS = (1, 2, 5)


def check_drawing() -> None:
    """Raise MissingExtra unless pygal is there to draw with."""
    _pygal()


def sweep_plot(sweep: Sweep) -> str:
    """Return the SVG of `sweep`: samples per second over the median latency of a query, which has a logarithmic axis.

    Colours tell files apart where there are several, else providers, presets or threads. Raises MissingExtra without
    pygal.
    """
    rows = [row for row in sweep.rows if not row.failed]
    chart, by = _chart(rows), _told_apart_by(rows)
    chart.add("Pareto front", [_dot(row, 1) for row in _rising(rows)], stroke_style={"dasharray": "6,4"})
    for value in dict.fromkeys(getattr(row, by) for row in rows):
        dots = [_dot(row, _ON_FRONT if row.pareto else _OFF_FRONT) for row in rows if getattr(row, by) == value]
        chart.add(_name(by, value), dots, stroke=False)
    return chart.render(is_unicode=True, disable_xml_declaration=True) + "\n"


def _chart(rows: Sequence[SweepRow]) -> Any:
    pygal, latencies = _pygal(), [row.p50_ms for row in rows if row.p50_ms]
    style = pygal.style.Style(
        background="white",
        plot_background="white",
        colors=(_GREY, *_COLOURS),
        opacity=0.85,
        font_family="sans-serif",
        guide_stroke_color=_FAINT,
        major_guide_stroke_color=_FAINT,
    )
    chart = pygal.XY(
        width=_WIDTH,
        height=_HEIGHT,
        style=style,
        title="Throughput over latency",
        x_title="Median latency of a query (ms)",
        y_title="Samples per second",
        legend_at_bottom=True,
        truncate_legend=-1,
        include_x_axis=False,
        js=[],
    )
    chart.uuid = "sweep"
    ticks = _ticks(min(latencies), max(latencies))
    chart.x_labels = [{"value": math.log10(each), "label": f"{each:g}"} for each in ticks]
    chart.xrange = math.log10(ticks[0]), math.log10(ticks[-1])
    chart.range = 0, max(_place(row)[1] for row in rows) * 1.05
    chart.value_formatter = "{:,.0f}".format
    chart.add_xml_filter(_bare)
    return chart


def _place(row: SweepRow) -> tuple[float, float]:
    return math.log10(row.p50_ms or 1), row.samples_per_second or 0.0


def _dot(row: SweepRow, radius: int) -> dict[str, Any]:
    setting = f"{_file(row.model)} ({row.precision}), {row.provider}, threads {row.threads}, batch {row.batch}"
    label = f"{setting}, {row.preset}: {row.p50_ms:.3g} ms, {row.samples_per_second:.4g} samples/s"
    return {"value": _place(row), "label": label, "node": {"r": radius}}


def _rising(rows: Sequence[SweepRow]) -> list[SweepRow]:
    """Return the rows on the front whose throughput no faster one reaches: with a third aim there are others on it."""
    found: list[SweepRow] = []
    for row in sorted((row for row in rows if row.pareto), key=lambda row: (_place(row)[0], -_place(row)[1])):
        if not found or _place(row)[1] > _place(found[-1])[1]:
            found.append(row)
    return found


def _told_apart_by(rows: Sequence[SweepRow]) -> str:
    several = (name for name in ("model", "provider", "preset", "threads") if len({getattr(r, name) for r in rows}) > 1)
    return next(several, "model")


def _name(by: str, value: object) -> str:
    return _file(str(value)) if by == "model" else f"{by} {value}"


def _file(path: str) -> str:
    return words.printable(Path(path).name)


def _ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten, from the last at or below `low` to the first at or above `high`."""
    steps = [step * 10.0**power for power in range(-6, 9) for step in _STEPS]
    first = max(i for i, step in enumerate(steps) if step <= low or i == 0)
    last = min(i for i, step in enumerate(steps) if step >= high or i == len(steps) - 1)
    return steps[first : max(last, first + 1) + 1]


def _bare(root: Element) -> Element:
    """Leave what is drawn and its styles: pygal adds scripts, and comments with the date."""
    for dots in root.iterfind(".//g[@class='dots']"):
        svg.name_dot(dots)
    for parent in list(root.iter()):
        for child in list(parent):
            if not isinstance(child.tag, str) or child.tag.rpartition("}")[2] == "script":
                parent.remove(child)
    return root


def _pygal() -> ModuleType:
    try:
        import pygal
    except ImportError as error:
        raise MissingExtra("pygal", "bench") from error
    return pygal
