"""Model → Measurement: latency, throughput, and whether it got worse."""

from tledge.measurement.change_points import change_points
from tledge.measurement.gate import against_baseline, against_model, against_reference
from tledge.measurement.held_sessions import Setting
from tledge.measurement.in_turn import median_latencies_ms
from tledge.measurement.loadgen import LoadGen
from tledge.measurement.pairs import Opener
from tledge.measurement.pareto import front
from tledge.measurement.scenarios import SAMPLES_PER_QUERY, multi_stream, offline, single_stream
from tledge.measurement.server import server
from tledge.measurement.settings_in_turn import ROUNDS, Measured, measure_in_turn, tied
from tledge.measurement.subject import Subject, is_ours, open_subject
from tledge.measurement.warming import warm_up

__all__ = [
    "ROUNDS",
    "SAMPLES_PER_QUERY",
    "LoadGen",
    "Measured",
    "Opener",
    "Setting",
    "Subject",
    "against_baseline",
    "against_model",
    "against_reference",
    "change_points",
    "front",
    "is_ours",
    "measure_in_turn",
    "median_latencies_ms",
    "multi_stream",
    "offline",
    "open_subject",
    "server",
    "single_stream",
    "tied",
    "warm_up",
]
