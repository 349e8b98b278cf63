"""What `tledge bench` finds out on a box beside latency and throughput, and what may be asked of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BudgetName = Literal["max_p50_ms", "max_p99_ms", "min_throughput", "max_memory_mb", "max_cold_start_ms"]
EnergySource = Literal["rapl", "nvml", "ina3221"]


# ── From the bytes of a file to a label ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Stage:
    """How long one stage took, in ms. Means of stages add up to the mean of the whole; quantiles do not."""

    p50_ms: float
    p99_ms: float
    mean_ms: float


@dataclass(frozen=True, slots=True)
class EndToEnd:
    """From the bytes of sample files in memory to labels, one after the other.

    `samples` says which, `files` how many, `passes` how often one was taken; `mean_extent` is the size of a sample in
    `extent`, `mean_bytes` that of its file. Pictures are decoded and resized (`resize` is None for a graph that resizes
    by itself), sounds decoded and brought to the model's rate in `decode`, texts tokenized; the others are None.
    `whole` is all stages; `model_alone` runs the graph once more on the same rows, right after.
    """

    samples: str
    files: int
    extent: Literal["pixels", "seconds", "tokens"]
    mean_extent: float
    mean_bytes: float
    passes: int
    decode: Stage | None
    resize: Stage | None
    tokenize: Stage | None
    run: Stage
    label: Stage
    whole: Stage
    model_alone: Stage


# ── A process of its own ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class ColdStart:
    """From the start of a process to its first result, in ms; each figure is the median over `processes`.

    `process_ms` ends where Python runs its first line, `import_ms` with onnxruntime loaded, `session_ms` with the
    model open, `first_run_ms` with its first outputs. Only processes are cold: files are in the memory of the system
    (`page_cache`). `engine_build_ms` is what TensorRT adds when it finds no engine that it built before, None for
    other providers.
    """

    processes: int
    process_ms: float
    import_ms: float
    session_ms: float
    first_run_ms: float
    total_ms: float
    total_min_ms: float
    total_max_ms: float
    page_cache: Literal["warm"] = "warm"
    engine_build_ms: float | None = None


@dataclass(frozen=True, slots=True)
class EnergyPart:
    """What one part of the box took while the model ran. Parts may hold one another, so they are not added up.

    `part` is what the source calls it: package-0, VDD_IN, GPU 0.
    """

    source: EnergySource
    part: str
    joules: float
    watts: float
    joules_per_inference: float


@dataclass(frozen=True, slots=True)
class Energy:
    """Energy while the model ran `inferences` times in `seconds`; what else the box did meanwhile is in it."""

    seconds: float
    inferences: int
    parts: tuple[EnergyPart, ...]


@dataclass(frozen=True, slots=True)
class Resources:
    """What a process takes that loads the model and runs it, and does nothing else.

    Bytes are resident memory: `imported_bytes` before the model is opened, `steady_bytes` after the last run,
    `peak_bytes` the most there ever was. CPU time is that of all its threads. An inference is one run of the graph.
    `idle_cpu_seconds_per_second` is what it burns in the `idle_seconds` after its last run. `energy` is None where
    nothing measures it; `energy_reason` says why, or which source is missing beside those that do.
    """

    imported_bytes: int
    steady_bytes: int
    peak_bytes: int
    inferences: int
    seconds_per_inference: float
    cpu_seconds_per_inference: float
    idle_seconds: float
    idle_cpu_seconds_per_second: float
    energy: Energy | None
    energy_reason: str | None


# ── The state of the machine ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class MachineState:
    """The machine at one moment; what it does not tell is empty or None.

    `clock_mhz` has one number per core that this process may use. `temperatures_celsius` are by sensor.
    `throttle_events` counts, since the machine was started, how often heat slowed a core or a processor down.
    """

    clock_mhz: tuple[float, ...]
    governor: str | None
    temperatures_celsius: dict[str, float]
    throttle_events: int | None
    load_average_1m: float | None


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under what conditions was measured; `before` is after the warm-up.

    Shares are of the time of the cores that this process may use: `own_cpu_share` went to it and its children,
    `others_cpu_share` to other processes, `steal_share` was taken by the host of a virtual machine.
    `quota_throttled_seconds` is how long a limit on CPU time (of a container) held this process up. `warnings` say what
    speaks against the figures.
    """

    before: MachineState
    after: MachineState
    seconds: float
    own_cpu_share: float | None
    others_cpu_share: float | None
    steal_share: float | None
    quota_throttled_seconds: float | None
    warnings: tuple[str, ...]


# ── Budgets ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class BoxBudgets:
    """What a box can bear; None sets no bound.

    `max_p50_ms` and `max_p99_ms` bound single-stream latency, `min_throughput` is in samples per second offline,
    `max_memory_mb` bounds peak resident memory in units of 1,000,000 bytes, `max_cold_start_ms` the median time to the
    first result.
    """

    max_p50_ms: float | None = None
    max_p99_ms: float | None = None
    min_throughput: float | None = None
    max_memory_mb: float | None = None
    max_cold_start_ms: float | None = None


@dataclass(frozen=True, slots=True)
class BudgetCheck:
    """One budget that was asked for: its `limit`, what was `found`, in the same unit, and whether it `holds`."""

    name: BudgetName
    limit: float
    found: float
    holds: bool
