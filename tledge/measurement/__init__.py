"""Model → Measurement: latency, throughput, and whether it got worse."""

from tledge.measurement.gate import against_baseline, against_model
from tledge.measurement.held_sessions import Setting
from tledge.measurement.in_turn import median_latencies_ms
from tledge.measurement.pareto import front
from tledge.measurement.scenarios import offline, single_stream, warm_up
from tledge.measurement.settings_in_turn import ROUNDS, Measured, measure_in_turn, tied
from tledge.measurement.subject import Subject, is_ours, open_subject

__all__ = [
    "ROUNDS",
    "Measured",
    "Setting",
    "Subject",
    "against_baseline",
    "against_model",
    "front",
    "is_ours",
    "measure_in_turn",
    "median_latencies_ms",
    "offline",
    "open_subject",
    "single_stream",
    "tied",
    "warm_up",
]
