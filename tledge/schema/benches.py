"""What `tledge bench` measured, and what it makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tledge.schema.box import BudgetCheck, ColdStart, Conditions, EndToEnd, Resources
from tledge.schema.documents import NodeElsewhere
from tledge.schema.networks import Precision
from tledge.schema.sweeps import Sweep


@dataclass(frozen=True, slots=True)
class Validity:
    """What MLCommons' LoadGen says of a run: `valid` or not and why, by its version `loadgen`.

    `mlperf` tells whether it judged by MLPerf's durations and numbers of queries, or by the shorter time asked for.
    Where LoadGen did not drive the run, `valid` and `loadgen` are None and `reason` says what did.
    """

    valid: bool | None
    reason: str
    loadgen: str | None = None
    mlperf: bool = False


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many latencies lie from each edge to the next, in ms; `edges_ms` has one more entry than `counts`.

    All latencies are in it: the outer edges are the smallest and the largest. A bin holds its lower edge, the last one
    both. Edges grow by one factor, as latencies have long tails.
    """

    edges_ms: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """Latencies of the runs that began in one of equal parts of the measurement, `start_s` after its begin."""

    start_s: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Latencies:
    """Latency of one query after the other, in ms; `p50_low_ms` to `p50_high_ms` holds the median at 99 %.

    `p999_ms` is None for fewer than 10,000 queries: less than ten would lie beyond it.
    """

    p50_ms: float
    p90_ms: float
    p99_ms: float
    min_ms: float
    max_ms: float
    mean_ms: float
    p50_low_ms: float
    p50_high_ms: float
    p999_ms: float | None = None
    validity: Validity | None = None
    histogram: Histogram | None = None
    timeline: tuple[Window, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleStream(Latencies):
    """Latency of one sample after the other, in ms; `p50_low_ms` to `p50_high_ms` holds the median at 99 %.

    `p999_ms` is None for fewer than 10,000 samples: less than ten would lie beyond it.
    """

    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiStream(Latencies):
    """Latency of a query of `samples_per_query` samples, one query after the other, in ms.

    `batch_size` samples go through the graph at a time. The other fields are those of SingleStream, for queries.
    """

    samples_per_query: int
    batch_size: int
    queries: int


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate of arrivals that was tried: what was completed per second, the latency at p99, and whether it held."""

    queries_per_second: float
    completed_per_second: float
    p99_ms: float
    queries: int
    held: bool


@dataclass(frozen=True, slots=True)
class Server:
    """The highest tried rate of Poisson arrivals at which the latency at p99 stays within `latency_bound_ms`.

    Latencies count from the moment at which a sample was due, so that waiting for the one before it is part of them.
    `bound_given` is False where the bound is a multiple of the median latency of one sample. No rate held where
    `queries_per_second` is None; the other figures are then those of the lowest rate that was tried.
    """

    queries_per_second: float | None
    completed_per_second: float
    latency_bound_ms: float
    bound_given: bool
    queries: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    p999_ms: float | None
    tried: tuple[Rate, ...]
    validity: Validity


@dataclass(frozen=True, slots=True)
class Offline:
    """Throughput at the best batch size, measured once more after all in `by_batch_size` were tried.

    `left_out` says why larger batches were not tried, where they were not.
    """

    samples_per_second: float
    batch_size: int
    by_batch_size: dict[str, float]
    samples: int = 0
    left_out: str = ""
    validity: Validity | None = None


@dataclass(frozen=True, slots=True)
class WarmUp:
    """What ran before anything was measured; `settled` tells whether latency had become steady by then."""

    runs: int
    seconds: float
    settled: bool


@dataclass(frozen=True, slots=True)
class Quantile:
    """A ratio of the 99th percentiles of two latencies, new over old, and its interval at 99 %."""

    ratio: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Reference:
    """Median latency as a multiple of that of the fixed workload with the digest `workload`, run in pairs with it.

    `low` to `high` is the interval of `ratio` at 99 %, or wider; `p50_ms` is the workload's own median. The pairs ran
    in so many `openings` of both.
    """

    workload: str
    ratio: float
    low: float
    high: float
    p50_ms: float
    pairs: int
    openings: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Is the model slower than `against`? `ratio` is new over old latency, `low` to `high` its interval at 99 %.

    `outcome` is pass, regression (slower by more than `max_regression`) or inconclusive; `reason` says why. `pairs` ran
    in so many `openings` of both models; `p99` is there when the 99th percentile was judged too.
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
    openings: int = 0
    p99: Quantile | None = None


@dataclass(frozen=True, slots=True)
class BenchResult:
    """The document of `tledge bench`. `scenarios` holds single_stream, multi_stream, server, offline, as asked for.

    With `sweep` there are none: it compares settings.
    `label` is the commit that was measured, or whatever else the user calls this state of the model.
    `nodes_elsewhere` as in VerifyResult. `input` is the file whose samples were fed, None for made-up values; `assumed`
    is what was taken for granted about the inputs, in words. `bytes` holds the weights that lie beside the file.
    `reference` is what a later bench compares with.
    `end_to_end` has one entry for each size of pictures. It, `cold_start`, `resources` and `budgets` are empty or None
    unless asked for. `real_time_factor` is the median latency of one sample over how long a sample lasts: of models of
    sounds, None for others and without single_stream.
    """

    schema_version: Literal[1]
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
    scenarios: dict[str, SingleStream | MultiStream | Server | Offline]
    verdict: Verdict | None
    label: str | None = None
    nodes_elsewhere: tuple[NodeElsewhere, ...] | None = ()
    warm_up: WarmUp | None = None
    input: str | None = None
    assumed: tuple[str, ...] = ()
    sweep: Sweep | None = None
    reference: Reference | None = None
    end_to_end: tuple[EndToEnd, ...] = ()
    cold_start: ColdStart | None = None
    resources: Resources | None = None
    conditions: Conditions | None = None
    budgets: tuple[BudgetCheck, ...] = ()
    real_time_factor: float | None = None
