"""Model → Measurement: latency, throughput, and whether it got worse."""

from tledge.measurement.judging.apart import median_latencies_ms
from tledge.measurement.judging.change_points import change_points
from tledge.measurement.judging.gate import against_baseline, against_model, against_reference
from tledge.measurement.judging.pairs import Opener
from tledge.measurement.load.loadgen import LoadGen
from tledge.measurement.load.scenarios import SAMPLES_PER_QUERY, multi_stream, offline, single_stream
from tledge.measurement.load.server import server
from tledge.measurement.load.warming import warm_up
from tledge.measurement.subject import Subject, is_ours, open_subject
from tledge.measurement.sweeps.held_sessions import Setting
from tledge.measurement.sweeps.pareto import front
from tledge.measurement.sweeps.settings_in_turn import ROUNDS, Measured, measure_in_turn, tied

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
