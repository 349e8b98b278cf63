"""A bench as one self-contained page: verdict, distribution, timeline, all figures, the machine, and its history."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from tledge.report import page, words
from tledge.report.benches import charts, figures
from tledge.report.benches.checks import checks, warnings
from tledge.report.benches.figures import Document
from tledge.report.benches.markdown import facts, headline
from tledge.schema import HistoryGroup

_TILES = ("p50", "p90", "p99")
_STAGES = ("decode", "resize", "tokenize", "run", "label")
TRACKS = {
    "p50_ms": "Median latency in ms",
    "p99_ms": "p99 latency in ms",
    "samples_per_second": "Samples per second",
    "reference_ratio": "Latency over that of the reference workload",
}


def render(document: Document, old: Document | None = None, history: HistoryGroup | None = None) -> str:
    """Return a bench as one HTML page that needs no other file, no network and no script.

    `old` is the document that it was compared with, `history` what the same model took at earlier commits. Parts that
    were not measured are not shown. Raises MissingExtra when jinja2 or pygal is not installed.
    """
    template = page.environment("bench").get_template("bench.html.j2")
    return words.printable(template.render(_contents(document, old, history)))


def drawn(group: HistoryGroup) -> list[tuple[str, str, list[Any]]]:
    """Return (title, SVG, changes) of every figure of `group` that has a history."""
    found = [
        (title, charts.history(group, figure, title), [each for each in group.changes if each.figure == figure])
        for figure, title in TRACKS.items()
    ]
    return [each for each in found if each[1]]


def _contents(document: Document, old: Document | None, history: HistoryGroup | None) -> dict[str, Any]:
    scenarios = document.get("scenarios") or {}
    verdict = document.get("verdict")
    return {
        "version": document.get("tledge_version"),
        "name": PurePath(document["model"]).name,
        "created": document.get("created"),
        "label": document.get("label"),
        "headline": headline(document)[1],
        "verdict": verdict,
        "intervals": _intervals(verdict) if verdict else [],
        "checks": checks(document),
        "tiles": _tiles(document),
        "warnings": warnings(document),
        "latencies": [
            (name.replace("_", " "), charts.distribution(each), charts.timeline(each))
            for name, each in scenarios.items()
            if each.get("histogram") or each.get("timeline")
        ],
        "batches": charts.batches((scenarios.get("offline") or {}).get("by_batch_size") or {}),
        "end_to_end": [_stages(each) for each in document.get("end_to_end") or ()],
        "history": drawn(history) if history else [],
        "points": len(history.points) if history else 0,
        "first": figures.first(document, old),
        "every": figures.every(document, old),
        "with_old": old is not None,
        "facts": facts(document),
    }


def _tiles(document: Document) -> list[tuple[str, str, str]]:
    single = (document.get("scenarios") or {}).get("single_stream") or {}
    found = [(name, figures.said(f"{name}_ms", single[f"{name}_ms"]), "one at a time") for name in _TILES if single]
    others = [each for each in figures.first(document) if each.part != "single stream"]
    names = [f"{each.part} {each.name}".strip() for each in others]
    return [*found, *((name[:1].upper() + name[1:], each.new, "") for name, each in zip(names, others, strict=True))]


def _stages(end_to_end: Document) -> tuple[str, list[tuple[str, float, float]]]:
    """Return which samples, and (stage, mean in ms, its share of the longest) from their bytes to their labels."""
    found = [(name, end_to_end[name]["mean_ms"]) for name in _STAGES if end_to_end.get(name)]
    longest = max((value for _, value in found), default=0) or 1
    return end_to_end.get("samples", ""), [(name, value, value / longest) for name, value in found]


def _intervals(verdict: Document) -> list[tuple[str, Document, dict[str, float]]]:
    """Return (which latency, its ratio, places on the scale) for each ratio that was judged."""
    limit = 1 + verdict["max_regression"]
    judged = [("median latency", verdict), ("p99 latency", verdict.get("p99") or {})]
    return [(name, each, _places(each, limit)) for name, each in judged if None not in _bounds(each)]


def _bounds(ratio: Document) -> tuple[float | None, ...]:
    return tuple(ratio.get(name) for name in ("low", "ratio", "high"))


def _places(ratio: Document, limit: float) -> dict[str, float]:
    """Return where the ratio, its interval, 1 and the limit lie on an axis from 0 to 100."""
    left, right = min(ratio["low"], 1.0), max(ratio["high"], limit)
    margin = 0.15 * (right - left) or 0.01
    scale = 100 / (right - left + 2 * margin)
    values = {"low": ratio["low"], "ratio": ratio["ratio"], "high": ratio["high"], "one": 1.0, "limit": limit}
    return {name: round((value - left + margin) * scale, 2) for name, value in values.items()}
