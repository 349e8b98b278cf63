"""Model → Measurement: latency, throughput, and whether it got worse."""

from tledge.measurement.gate import against_baseline, against_model
from tledge.measurement.in_turn import median_latencies_ms
from tledge.measurement.scenarios import offline, single_stream, warm_up
from tledge.measurement.subject import Subject, open_subject

__all__ = [
    "Subject",
    "against_baseline",
    "against_model",
    "median_latencies_ms",
    "offline",
    "open_subject",
    "single_stream",
    "warm_up",
]
