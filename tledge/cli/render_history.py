"""The document of `tledge bench history` for people."""

from __future__ import annotations

from typing import Any

from tledge.cli.tables import MOST_LISTED, line, table
from tledge.schema import ChangePoint, HistoryGroup, HistoryResult

_NAMES = {
    "p50_ms": "p50 in ms",
    "p99_ms": "p99 in ms",
    "samples_per_second": "samples/s",
    "reference_ratio": "× reference",
}


def history(result: HistoryResult, console: Any) -> None:
    """Show where each group of measurements stands, and between which of them it changed."""
    for group in result.groups:
        _group(group, console)
    for problem in result.skipped[:MOST_LISTED]:
        line(console, f"Left out: {problem.path}: {problem.reason}")
    if len(result.skipped) > MOST_LISTED:
        line(console, f"Left out: {len(result.skipped) - MOST_LISTED} more; all of them are in the JSON document.")
    line(console, f"{result.documents} measurements in {result.folder}")
    if result.html:
        line(console, f"Page: {result.html}")


def _group(group: HistoryGroup, console: Any) -> None:
    line(console, f"{group.model} ({group.precision}) on {group.provider}, {group.threads} threads, {group.machine}")
    rows = []
    for figure, name in _NAMES.items():
        values = [value for point in group.points if (value := getattr(point, figure)) is not None]
        if values:
            changes = sum(change.figure == figure for change in group.changes)
            rows.append((name, str(len(values)), f"{values[0]:.4g}", f"{values[-1]:.4g}", str(changes)))
    table(console, ("figure", "measured", "first", "last", "changes"), rows)
    for change in group.changes:
        line(console, _said(change))


def _said(change: ChangePoint) -> str:
    how = f"{100 * (change.ratio - 1):+.1f} % ({'worse' if change.worse else 'better'})"
    where = f"between {change.last} and {change.first}"
    return f"{_NAMES[change.figure]}: {change.before:.4g} → {change.after:.4g}, {how}, {where}"
