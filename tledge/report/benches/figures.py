"""The figures in the document of a bench, whatever was measured: names and units are those of its fields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from tledge.report import words

Document = dict[str, Any]
_NOT_MEASURED = {"machine", "conditions", "verdict", "nodes_elsewhere", "budgets", "sweep"}
_NOT_FIGURES = {"schema_version", "threads", "warmup_runs", "bytes"}
_ENTRIES = {"end_to_end"}  # lists whose entries are figures of their own; others are parts of a diagram
# What a reader looks for first, in this order, and what it is called where the fields do not say it well.
_FIRST = {
    "scenarios.single_stream.p50_ms": "",
    "scenarios.single_stream.p90_ms": "",
    "scenarios.single_stream.p99_ms": "",
    "scenarios.*.p99_ms": "",
    "real_time_factor": "real-time factor",
    "reference.ratio": "latency over the reference workload's",
    "scenarios.*.queries_per_second": "",
    "scenarios.*.samples_per_second": "",
    "end_to_end.*.whole.p50_ms": "",
    "end_to_end.*.whole.p99_ms": "",
    "cold_start.total_ms": "cold start",
    "resources.peak_bytes": "peak memory",
    "resources.cpu_seconds_per_inference": "CPU time per inference",
    "resources.idle_cpu_seconds_per_second": "CPU while idle",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure in words: `part` of the document, `name` in it, `new` value and the `old` one or nothing."""

    part: str
    name: str
    new: str
    old: str = ""


def first(document: Document, old: Document | None = None) -> list[Figure]:
    """Return what a reader looks for first, beside the same of the document `old`."""
    found = dict(numbers(document))
    paths = [path for pattern in _FIRST for path in found if fnmatchcase(path, pattern)]
    return [_figure(path, found, old, _FIRST.get(path, "")) for path in dict.fromkeys(paths)]


def every(document: Document, old: Document | None = None) -> list[Figure]:
    """Return all that was measured, in the order of the document, beside the same of the document `old`."""
    found = dict(numbers(document))
    return [_figure(path, found, old) for path in found]


def numbers(document: Document) -> Iterator[tuple[str, float]]:
    """Yield (path, number) for every single number that was measured; a path's words are separated by dots."""
    for key, value in document.items():
        if key not in _NOT_MEASURED | _NOT_FIGURES:
            yield from _walk(key, value)


def said(path: str, value: float) -> str:
    """Return a number with the unit that the last words of its path say."""
    leaf = path.rpartition(".")[2]
    if leaf.endswith("_ms"):
        return f"{_number(value)} ms"
    if leaf.endswith("_bytes"):
        return words.file_size(round(value))
    if leaf.endswith("_share") or leaf == "idle_cpu_seconds_per_second":
        return words.percent(value)
    if ".by_batch_size." in path:
        return f"{_number(value)}/s"
    if "seconds" in leaf:
        return f"{_number(value)} s" if value >= 1 or value == 0 else f"{_number(1000 * value)} ms"
    return _number(value)


def _number(value: float) -> str:
    """Return three digits or more, thousands apart; whole numbers as they are."""
    if value == int(value) or value >= 1000:
        return words.count(round(value))
    return words.number(value)


def _walk(path: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _walk(f"{path}.{key}", inner)
    elif isinstance(value, list) and path in _ENTRIES:
        for entry in value:
            yield from _walk(f"{path}.{_entry(entry)}", entry)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value


def _entry(entry: Document) -> str:
    """Return what tells an entry from the others, as one word of a path."""
    return str(entry.get("samples", "")).replace(".", "·") or "one"


def _figure(path: str, found: dict[str, float], old: Document | None, called: str = "") -> Figure:
    before = dict(numbers(old)).get(path) if old else None
    then, now = "" if before is None else said(path, before), said(path, found[path])
    if called:
        return Figure("", called, now, then)
    parts = path.removeprefix("scenarios.").split(".")
    name = " ".join(_word(part) for part in parts[1:]) or _word(parts[0])
    part = _word(parts[0]) if len(parts) > 1 else ""
    return Figure(part, name, now, then)


def _word(key: str) -> str:
    """Return a field's name as words, without the unit that its value will carry."""
    for unit in ("_ms", "_bytes"):
        key = key.removesuffix(unit)
    return key.replace("p999", "p99.9").replace("_", " ")
