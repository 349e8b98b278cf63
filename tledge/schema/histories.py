"""What `tledge bench history` makes of the documents of many benches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tledge.schema.samples import Problem

HistoryFigure = Literal["p50_ms", "p99_ms", "samples_per_second", "reference_ratio"]


@dataclass(frozen=True, slots=True)
class HistoryPoint:
    """The figures of one document: `path` and `created` say which, `label` which commit; None was not measured.

    `reference_ratio` is the median latency over that of the reference workload that ran beside it.
    """

    path: str
    created: str
    label: str | None
    p50_ms: float | None
    p99_ms: float | None
    samples_per_second: float | None
    reference_ratio: float | None


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """A `figure` went from one level to another between two neighbouring points, numbers `index` - 1 and `index`.

    `before` and `after` are the medians of the levels, `ratio` is after / before; `worse` means slower.
    """

    figure: HistoryFigure
    index: int
    last: str
    first: str
    before: float
    after: float
    ratio: float
    worse: bool


@dataclass(frozen=True, slots=True)
class HistoryGroup:
    """Documents whose figures compare: one model by its file's name, one machine, provider and number of threads."""

    model: str
    precision: str
    machine: str
    provider: str
    threads: int
    points: tuple[HistoryPoint, ...]
    changes: tuple[ChangePoint, ...]


@dataclass(frozen=True, slots=True)
class HistoryResult:
    """The document of `tledge bench history`: the groups with the most points first, and the files left out."""

    schema_version: int
    folder: str
    documents: int
    groups: tuple[HistoryGroup, ...]
    skipped: tuple[Problem, ...]
    html: str | None = None
