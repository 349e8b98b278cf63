"""Energy per inference, where the box tells it: RAPL of x86 processors, NVML of NVIDIA GPUs, INA3221 on Jetson boards.

Nobody has run these on the hardware yet: they were written after the documentation of the kernel and of NVML, and are
tested against files and a library made after it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from tledge.measurement.box.energy import ina3221, nvml, rapl
from tledge.measurement.box.energy.meter import Meter
from tledge.measurement.subject import Subject
from tledge.schema import Energy, EnergyPart

__all__ = ["measure", "meters"]


def meters(provider: str, sysfs: Path = Path("/sys")) -> tuple[list[Meter], str]:
    """Return what measures energy here, and why some does not; GPUs only where `provider` uses one."""
    found: list[Meter] = []
    reasons: list[str] = []
    for look in (rapl.find, ina3221.find):
        here, reason = look(sysfs)
        found += here
        reasons += [reason] if reason else []
    if provider != "cpu":
        here, reason = nvml.find()
        found += here
        reasons += [reason] if reason else []
    return found, "; ".join(reasons)


def measure(subject: Subject, seconds: float, found: tuple[Sequence[Meter], str]) -> tuple[Energy | None, str | None]:
    """Run `subject` for `seconds` and return what each of the meters `found` counted, or None and why there is none.

    With figures, the second value says which source did not give any; it is None when all did.
    """
    here, reason = found
    if not here:
        return None, reason
    runs, feed = 0, subject.feed(subject.batch_sizes[0])
    start = time.perf_counter()
    for meter in here:
        meter.start()
    while not runs or time.perf_counter() - start < seconds:
        subject.run(feed)
        runs += 1
    joules = [meter.joules() for meter in here]
    spent = time.perf_counter() - start
    parts = (_part(meter, taken, spent, runs) for meter, taken in zip(here, joules, strict=True))
    return Energy(spent, runs, tuple(parts)), reason or None


def _part(meter: Meter, joules: float, seconds: float, runs: int) -> EnergyPart:
    return EnergyPart(meter.source, meter.part, joules, joules / seconds, joules / runs)
