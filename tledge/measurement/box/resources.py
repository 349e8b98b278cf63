"""What a model takes of a box: memory, processor time while it runs and while it waits, energy."""

from __future__ import annotations

from tledge.measurement.box import energy, fresh_process
from tledge.measurement.subject import Subject
from tledge.schema import Resources

IDLE_S = 0.5


def resources(subject: Subject, provider: str, seconds: float) -> Resources:
    """Run the model of `subject` on `provider` in a fresh process for `seconds`, and leave it idle for half a second.

    Energy is measured here then, for as long again, where something measures it. Raises TledgeError when the process
    fails.
    """
    found = fresh_process.run(subject, provider, seconds=seconds, idle_seconds=IDLE_S)
    taken, reason = energy.measure(subject, seconds, energy.meters(subject.provider))
    return Resources(
        imported_bytes=int(found["imported_bytes"]),
        steady_bytes=int(found["steady_bytes"]),
        peak_bytes=int(found["peak_bytes"]),
        inferences=int(found["runs"]),
        seconds_per_inference=found["wall"] / found["runs"],
        cpu_seconds_per_inference=found["cpu"] / found["runs"],
        idle_seconds=found["idle"],
        idle_cpu_seconds_per_second=found["idle_cpu"] / found["idle"],
        energy=taken,
        energy_reason=reason,
    )
