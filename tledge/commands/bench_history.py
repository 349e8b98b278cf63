"""`tledge bench history`: the documents of many benches over time, and where they changed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from statistics import median
from typing import Any, get_args

from tledge import documents, measurement, places
from tledge.errors import DataError, TledgeError
from tledge.report import benches
from tledge.schema import ChangePoint, HistoryGroup, HistoryPoint, HistoryResult, Problem
from tledge.schema.histories import HistoryFigure

_KEYS = ("schema_version", "created", "model", "machine", "provider", "threads", "scenarios")
_FIGURES = get_args(HistoryFigure)
_MORE_IS_BETTER = "samples_per_second"
_LARGEST_BYTES = 50_000_000

Key = tuple[str, str, str, str, int]


def bench_history(folder: str | Path, *, html: str | Path | None = None, force: bool = False) -> HistoryResult:
    """Read every .json file in `folder` and below, and find where the figures of a model changed.

    Documents of one model (by its file's name), machine, provider and number of threads form a group, ordered by the
    time they were made; other files are told as skipped. `html` is the page to write. Raises DataError when there is no
    document of a bench, MissingExtra without the extra `bench`.
    """
    folder = places.at(folder)
    target = places.at(html) if html else None
    if target:
        places.check_free_file(target, force=force)
    found, skipped = read(folder)
    if not found:
        raise DataError(f"{folder} holds no document of 'tledge bench'.", "Write some there with --save.")
    result = HistoryResult(1, str(folder), len(found), groups(found), tuple(skipped), str(target) if target else None)
    if target:
        places.write_whole(target, benches.history_page(result).encode())
    return result


def read(folder: Path) -> tuple[dict[str, dict[str, Any]], list[Problem]]:
    """Return the documents in `folder` and below by their path in it, and the .json files that are none."""
    if not places.is_folder(folder):
        raise DataError(f"A folder is needed, and {folder} is none.", "Check the path.")
    found, skipped = {}, []
    for path in sorted(folder.rglob("*.json")):
        name = path.relative_to(folder).as_posix()
        try:
            found[name] = _document(path)
        except TledgeError as error:
            skipped.append(Problem(name, error.message.replace(str(path), "it").removeprefix("it is ")))
    return found, skipped


def groups(found: dict[str, dict[str, Any]]) -> tuple[HistoryGroup, ...]:
    """Return the documents `found` in groups that compare, those with the most points first."""
    by_key: dict[Key, list[HistoryPoint]] = {}
    for path, document in found.items():
        by_key.setdefault(key(document), []).append(_point(path, document))
    made = [_group(each, points) for each, points in by_key.items()]
    return tuple(sorted(made, key=lambda group: (-len(group.points), group.model, group.machine)))


def key(document: dict[str, Any]) -> Key:
    """Return by what documents compare: model, precision, machine, provider, threads."""
    machine = document["machine"]
    where = f"{machine.get('cpu', 'unknown processor')}, {machine.get('cores', '?')} cores"
    name = PurePath(document["model"]).name
    return name, str(document.get("precision")), where, document["provider"], document["threads"]


def _document(path: Path) -> dict[str, Any]:
    if not path.is_file() or path.stat().st_size > _LARGEST_BYTES:
        raise TledgeError("no file of a size that a document has")
    document = documents.read(path, "bench document", _KEYS)
    texts = all(isinstance(document[name], str) for name in ("created", "model", "provider"))
    parts = all(isinstance(document[name], dict) for name in ("machine", "scenarios"))
    if not texts or not parts or type(document["threads"]) is not int:
        raise TledgeError("not a bench document: its fields hold something else")
    if all(getattr(_point("", document), figure) is None for figure in _FIGURES):
        raise TledgeError("holds no figures whose history could be told")
    return document


def _point(path: str, document: dict[str, Any]) -> HistoryPoint:
    single, offline = (document["scenarios"].get(name) for name in ("single_stream", "offline"))
    label = document.get("label")
    return HistoryPoint(
        path=path,
        created=document["created"],
        label=label if isinstance(label, str) else None,
        p50_ms=_number(single, "p50_ms"),
        p99_ms=_number(single, "p99_ms"),
        samples_per_second=_number(offline, "samples_per_second"),
        reference_ratio=_number(document.get("reference"), "ratio"),
    )


def _number(part: Any, name: str) -> float | None:
    value = part.get(name) if isinstance(part, dict) else None
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
    return float(value) if usable else None


def _group(name: Key, points: Sequence[HistoryPoint]) -> HistoryGroup:
    ordered = tuple(sorted(points, key=lambda point: (point.created, point.path)))
    changes = tuple(change for figure in _FIGURES for change in _changes(figure, ordered))
    return HistoryGroup(*name, points=ordered, changes=changes)


def _changes(figure: HistoryFigure, points: Sequence[HistoryPoint]) -> Iterator[ChangePoint]:
    known = [(i, getattr(point, figure)) for i, point in enumerate(points) if getattr(point, figure) is not None]
    values = [value for _, value in known]
    ends = measurement.change_points(values)
    for start, at, end in zip([0, *ends], ends, [*ends[1:], len(values)], strict=False):
        before, after = median(values[start:at]), median(values[at:end])
        yield ChangePoint(
            figure=figure,
            index=known[at][0],
            last=_said(points[known[at - 1][0]]),
            first=_said(points[known[at][0]]),
            before=before,
            after=after,
            ratio=after / before,
            worse=(after < before) == (figure == _MORE_IS_BETTER),
        )


def _said(point: HistoryPoint) -> str:
    return point.label or point.path
