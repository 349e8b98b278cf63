"""What `tledge bench` measured, and what it makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tledge.schema.documents import NodeElsewhere
from tledge.schema.networks import Precision


@dataclass(frozen=True, slots=True)
class SingleStream:
    """Latency of one sample after the other, in ms; `p50_low_ms` to `p50_high_ms` holds the median at 99 %."""

    samples: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    min_ms: float
    max_ms: float
    mean_ms: float
    p50_low_ms: float
    p50_high_ms: float


@dataclass(frozen=True, slots=True)
class Offline:
    """Throughput at the best batch size, and at each that was tried."""

    samples_per_second: float
    batch_size: int
    by_batch_size: dict[str, float]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Is the model slower than `against`? `ratio` is new over old latency, `low` to `high` its interval at 99 %.

    `outcome` is pass, regression (slower by more than `max_regression`) or inconclusive; `reason` says why.
    """

    outcome: Literal["pass", "regression", "inconclusive"]
    against: str
    ratio: float | None
    low: float | None
    high: float | None
    max_regression: float
    pairs: int
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class BenchResult:
    """The document of `tledge bench`. `scenarios` holds single_stream and offline, those that were asked for.

    `nodes_elsewhere` as in VerifyResult.
    """

    schema_version: int
    tledge_version: str
    created: str
    model: str
    digest: str
    bytes: int
    precision: Precision
    provider: str
    threads: int
    onnxruntime: str
    machine: dict[str, Any]
    load_ms: float
    warmup_runs: int
    scenarios: dict[str, SingleStream | Offline]
    verdict: Verdict | None
    nodes_elsewhere: tuple[NodeElsewhere, ...] | None = ()
