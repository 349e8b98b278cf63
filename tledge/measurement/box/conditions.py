"""Was the machine quiet while it was measured? Its state before and after, and where its processor time went."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tledge.measurement.box import cpu_time, machine_state
from tledge.measurement.box.cpu_time import CpuTime
from tledge.schema import Conditions, MachineState, SingleStream

# What a warning is worth. Of two cores, 5 % is a tenth of one; a tick of /proc/stat is 0.01 s.
_OTHERS, _STEAL, _LEAST_S = 0.05, 0.01, 0.05
_CLOCK, _WARMER, _SPREAD, _DRIFT = 0.05, 10.0, 2.0, 1.2


@dataclass(frozen=True, slots=True)
class Watch:
    """What `begin` saw of the machine whose /proc and /sys are below `root`."""

    root: Path
    state: MachineState
    times: CpuTime


def begin(root: Path = Path("/")) -> Watch:
    """Look at the machine before the measurement, once the model is warm."""
    return Watch(root, machine_state.read(root), cpu_time.read(root))


def end(watch: Watch, single_stream: SingleStream | None) -> Conditions:
    """Look at the machine after the measurement, and say what speaks against its figures.

    `single_stream` is what was measured of one sample after the other, if it was.
    """
    times, state = cpu_time.read(watch.root), machine_state.read(watch.root)
    return judged(watch.state, state, watch.times, times, single_stream)


def judged(
    before: MachineState, after: MachineState, start: CpuTime, stop: CpuTime, single_stream: SingleStream | None
) -> Conditions:
    """Return the conditions between two states of the machine and its times then."""
    seconds, total = stop.at - start.at, stop.total - start.total
    own, steal = stop.own - start.own, stop.steal - start.steal
    others = max(0.0, stop.busy - start.busy - own)  # ticks are coarse, our own time is not
    known = start.throttled is not None and stop.throttled is not None
    throttled = stop.throttled - start.throttled if known else None
    warnings = [
        *_taken(others, total, _OTHERS, "of the processor time went to other processes"),
        *_taken(steal, total, _STEAL, "of the processor time was taken by the host of this virtual machine (steal)"),
        *_held_up(throttled),
        *_heat(before, after),
        *_spread(single_stream),
    ]
    shares = [each / total if total > 0 else None for each in (own, others, steal)]
    return Conditions(before, after, seconds, *shares, throttled, tuple(warnings))


def _taken(taken: float, total: float, most: float, words: str) -> list[str]:
    if total <= 0 or taken < _LEAST_S or taken / total < most:
        return []
    return [f"{taken / total:.0%} {words}: the machine was not quiet."]


def _held_up(throttled: float | None) -> list[str]:
    if not throttled:
        return []
    return [f"A limit on processor time (of a container) held processes up for {throttled:.2f} s: tails are its doing."]


def _heat(before: MachineState, after: MachineState) -> list[str]:
    found = []
    events = (after.throttle_events or 0) - (before.throttle_events or 0)
    if events > 0:
        found.append(f"Heat slowed the processor down {events} times meanwhile.")
    if before.clock_mhz and after.clock_mhz:
        found += _clock(max(before.clock_mhz), max(after.clock_mhz))
    rise = {
        name: heat - before.temperatures_celsius.get(name, heat) for name, heat in after.temperatures_celsius.items()
    }
    if rise and max(rise.values()) >= _WARMER:
        name = max(rise, key=rise.__getitem__)
        found.append(f"{name} got {rise[name]:.0f} °C warmer meanwhile: a box in service may be slower.")
    return found


def _clock(before: float, after: float) -> list[str]:
    """Compare the fastest cores: one that sleeps is slow in any case."""
    if abs(after - before) <= _CLOCK * before:
        return []
    return [f"The clock went from {before:.0f} to {after:.0f} MHz meanwhile."]


def _spread(single: SingleStream | None) -> list[str]:
    """Look at single stream: tails, and medians of parts of the measurement, which a neighbour on a host can move."""
    found = []
    if single and single.p99_ms > _SPREAD * single.p50_ms:
        ratio = single.p99_ms / single.p50_ms
        found.append(f"p99 is {ratio:.1f} × p50 of single stream: something interrupted the model.")
    medians = [window.p50_ms for window in single.timeline] if single else []
    if medians and max(medians) > _DRIFT * min(medians):
        found.append(
            f"The median of single stream went between {min(medians):.2f} and {max(medians):.2f} ms meanwhile: "
            "the speed of the machine was not steady."
        )
    return found
