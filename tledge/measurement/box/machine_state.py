"""Clock, governor, heat and load of this machine, as Linux tells them; what it does not tell is empty or None."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tledge.schema import MachineState

_KILO, _MILLI = 1000, 1e-3
_CPU_SENSORS = ("coretemp", "k10temp", "zenpower")  # chips in processors that are no thermal zones


def read(root: Path = Path("/")) -> MachineState:
    """Return the state now of the machine whose /proc and /sys are below `root`."""
    mine = own_cores()
    return MachineState(
        clock_mhz=_clock_mhz(root, mine),
        governor=_governor(root, mine),
        temperatures_celsius={**_thermal_zones(root), **_processor_sensors(root)},
        throttle_events=_throttle_events(root),
        load_average_1m=_load_average(root),
    )


def own_cores() -> list[int]:
    """Return the numbers of the processors that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def _clock_mhz(root: Path, cores: Sequence[int]) -> tuple[float, ...]:
    found = (_number(root / f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq") for core in cores)
    scaled = tuple(khz / _KILO for khz in found if khz is not None)
    return scaled or _clock_of_cpuinfo(root, cores)


def _clock_of_cpuinfo(root: Path, cores: Sequence[int]) -> tuple[float, ...]:
    """Return what /proc/cpuinfo says, which on a virtual machine without scaling may never change."""
    clocks: dict[int, float] = {}
    processor = -1
    for line in text(root / "proc/cpuinfo").splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        with suppress(ValueError):
            if key == "processor":
                processor = int(value)
            elif key == "cpu MHz":
                clocks[processor] = float(value)
    return tuple(clocks[core] for core in cores if core in clocks)


def _governor(root: Path, cores: Sequence[int]) -> str | None:
    files = (root / f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor" for core in cores)
    return ", ".join(sorted({governor for file in files if (governor := text(file))})) or None


def _thermal_zones(root: Path) -> dict[str, float]:
    zones = sorted((root / "sys/class/thermal").glob("thermal_zone*"))
    return {f"{zone.name} {text(zone / 'type')}": _MILLI * heat for zone in zones if (heat := _number(zone / "temp"))}


def _processor_sensors(root: Path) -> dict[str, float]:
    chips = sorted((root / "sys/class/hwmon").glob("hwmon*"))
    return {
        f"{chip.name} {text(file.with_name(file.name.replace('_input', '_label'))) or file.name}": _MILLI * heat
        for chip in chips
        if text(chip / "name") in _CPU_SENSORS
        for file in sorted(chip.glob("temp*_input"))
        if (heat := _number(file))
    }


def _throttle_events(root: Path) -> int | None:
    counters = sorted((root / "sys/devices/system/cpu").glob("cpu*/thermal_throttle/*_throttle_count"))
    found = [count for file in counters if (count := _number(file)) is not None]
    return sum(found) if found else None


def _load_average(root: Path) -> float | None:
    with suppress(ValueError, IndexError):
        return float(text(root / "proc/loadavg").split()[0])
    return None


def text(file: Path) -> str:
    """Return what stands in `file`, empty where it cannot be read."""
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""


def _number(file: Path) -> int | None:
    try:
        return int(text(file))
    except ValueError:
        return None
