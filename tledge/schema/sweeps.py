"""What `tledge bench --sweep` found: a model under many settings, and which of them to use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SweepRow:
    """A model file under one setting. What was measured is None where it `failed`, for the reason that is given there.

    `p50_ms` and `p99_ms` are of one query, which is a whole batch; p99 is None for fewer than 100 queries.
    `cpu_ms_per_sample` is processor time of all threads. `accuracy` is what the file says of itself, if it does.
    `pareto`: no other row is at least as good in all of the sweep's objectives, and better in one.
    """

    model: str
    precision: str
    bytes: int
    accuracy: float | None
    provider: str
    threads: int
    batch: int
    preset: str
    queries: int
    p50_ms: float | None
    p99_ms: float | None
    samples_per_second: float | None
    cpu_ms_per_sample: float | None
    pareto: bool
    failed: str = ""


@dataclass(frozen=True, slots=True)
class SweepChoice:
    """The setting to use for an aim, the one in row `row`, as code for tledge (empty for models of others) and without.

    `tied` are the other rows that come within 5 % of the best one and could not be told from it. Of those, the one that
    costs least is chosen: processor time for the fastest, the batch for the most, latency for the leanest.
    """

    row: int
    tied: tuple[int, ...]
    predictor: str
    onnxruntime: str


@dataclass(frozen=True, slots=True)
class Sweep:
    """The document of a sweep: `axes` with their values, a row for each combination, and what to use.

    `fastest` has the lowest latency, `most` the highest throughput, `leanest` the least processor time for a sample.
    Latency and processor time are those of queries that come `pause_ms` after the last answer. `rounds` is how often
    each setting had its turn.
    """

    axes: dict[str, tuple[str, ...]]
    objectives: tuple[str, ...]
    rows: tuple[SweepRow, ...]
    fastest: SweepChoice
    most: SweepChoice
    leanest: SweepChoice
    rounds: int
    pause_ms: float
    seconds: float
    plot: str = ""
    notes: tuple[str, ...] = ()
