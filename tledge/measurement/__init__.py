"""Model → Measurement: latency, throughput, and whether it got worse."""

from tledge.measurement.change_points import change_points
from tledge.measurement.gate import against_baseline, against_model
from tledge.measurement.in_turn import median_latencies_ms
from tledge.measurement.loadgen import LoadGen
from tledge.measurement.scenarios import SAMPLES_PER_QUERY, multi_stream, offline, single_stream
from tledge.measurement.server import server
from tledge.measurement.subject import Subject, open_subject
from tledge.measurement.warming import warm_up

__all__ = [
    "SAMPLES_PER_QUERY",
    "LoadGen",
    "Subject",
    "against_baseline",
    "against_model",
    "change_points",
    "median_latencies_ms",
    "multi_stream",
    "offline",
    "open_subject",
    "server",
    "single_stream",
    "warm_up",
]
