"""The load that a model is put under: which scenarios, for how long, and by whose rules."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tledge import measurement, places
from tledge.errors import TledgeError, did_you_mean
from tledge.measurement import LoadGen
from tledge.schema import MultiStream, Offline, Server, SingleStream

SCENARIOS = ("single_stream", "multi_stream", "server", "offline")
BY_DEFAULT = ("single_stream", "offline")
_MOST_SAMPLES_PER_QUERY = 4096


@dataclass(frozen=True, slots=True)
class Load:
    """What to measure in about `seconds` for all `scenarios` together; with `mlperf`, for as long as its rules ask.

    `samples_per_query` is for multi_stream, `latency_bound_ms` for server, where None is a multiple of the median of
    one sample. `logs` is a new folder that keeps what LoadGen logs.
    """

    scenarios: tuple[str, ...]
    seconds: float
    samples_per_query: int = measurement.SAMPLES_PER_QUERY
    latency_bound_ms: float | None = None
    mlperf: bool = False
    logs: Path | None = None


def check(load: Load) -> None:
    """Raise TledgeError where `load` cannot be put on any model, MissingExtra where LoadGen is needed for it."""
    for name in load.scenarios:
        if name not in SCENARIOS:
            raise TledgeError(f"There is no scenario called '{name}'.", did_you_mean(name, SCENARIOS))
    if not load.scenarios:
        raise TledgeError("At least one scenario is needed, found none.", did_you_mean("", SCENARIOS))
    if not 0 < load.seconds < math.inf:
        raise TledgeError(f"Seconds must be above 0 and finite, got {load.seconds:g}.")
    if not 1 <= load.samples_per_query <= _MOST_SAMPLES_PER_QUERY:
        raise TledgeError(
            f"Samples per query must be between 1 and {_MOST_SAMPLES_PER_QUERY}, got {load.samples_per_query}."
        )
    if load.latency_bound_ms is not None and not 0 < load.latency_bound_ms < math.inf:
        raise TledgeError(f"The latency bound must be above 0 ms and finite, got {load.latency_bound_ms:g}.")
    if load.logs:
        places.check_free_folder(load.logs, force=False, files=("mlperf_log_summary.txt",))
    if load.mlperf or load.logs or "server" in load.scenarios:
        LoadGen()


def measure(
    subject: measurement.Subject, load: Load, tell: Callable[[str], None]
) -> dict[str, SingleStream | MultiStream | Server | Offline]:
    """Return the document of each scenario of `load`, by name. LoadGen drives them where it is installed.

    `tell` hears what is being measured.
    """
    loadgen = LoadGen(mlperf=load.mlperf, logs=load.logs) if LoadGen.installed() else None
    share = load.seconds / len(load.scenarios)
    found: dict[str, SingleStream | MultiStream | Server | Offline] = {}
    for name in load.scenarios:
        tell(f"Measuring {name.replace('_', ' ')}")
        if name == "server":
            found[name] = measurement.server(subject, share, loadgen or LoadGen(), load.latency_bound_ms, tell)
        elif name == "multi_stream":
            found[name] = measurement.multi_stream(subject, share, loadgen, load.samples_per_query)
        else:
            found[name] = getattr(measurement, name)(subject, share, loadgen)
    return found


def real_time_factor(
    subject: measurement.Subject, found: dict[str, SingleStream | MultiStream | Server | Offline]
) -> float | None:
    """Return the median latency of one sample over how long a sample lasts; None where either is not known."""
    seconds, single = subject.predictor and subject.predictor.reader.seconds, found.get("single_stream")
    return single.p50_ms / 1000 / seconds if seconds and isinstance(single, SingleStream) else None
