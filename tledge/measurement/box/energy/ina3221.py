"""INA3221, the chips on Jetson boards that measure the voltage and the current of up to three supplies each.

Source: the kernel's Documentation/hwmon/ina3221.rst: below /sys/class/hwmon a folder whose `name` is ina3221 has
`in1_label` to `in3_label` (VDD_IN is the whole module), `in1_input` in mV and `curr1_input` in mA; tegrastats reads the
same files. There is no counter of energy, so power is read ten times a second and added up. Nobody has run this on the
hardware yet.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tledge.schema import EnergySource

_CHANNELS = (1, 2, 3)
_EVERY_S = 0.1
_MILLI_MILLI = 1e-6
_NOT_CONNECTED = ("", "NC")


@dataclass(slots=True)
class Channel:
    """A supply: channel `number` of the chip in the folder `path`. Energy is that of trapezoids between readings."""

    path: Path
    number: int
    part: str
    source: EnergySource = "ina3221"
    readings: list[tuple[float, float]] = field(default_factory=list)  # seconds, watts
    ended: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to read power, in a thread of its own."""
        self.readings.clear()
        self.ended.clear()
        self._read()
        self.thread = threading.Thread(target=self._keep_reading, daemon=True)
        self.thread.start()

    def joules(self) -> float:
        """Stop reading, and return the energy in J since `start`."""
        self.ended.set()
        if self.thread:
            self.thread.join()
        self._read()
        pairs = zip(self.readings, self.readings[1:], strict=False)
        return sum((then - before) * (p + q) / 2 for (before, p), (then, q) in pairs)

    def watts(self) -> float:
        """Return the power now."""
        return (
            _MILLI_MILLI
            * _number(self.path / f"in{self.number}_input")
            * _number(self.path / f"curr{self.number}_input")
        )

    def _keep_reading(self) -> None:
        while not self.ended.wait(_EVERY_S):
            with suppress(OSError, ValueError):  # a reading that fails once leaves a longer trapezoid
                self._read()

    def _read(self) -> None:
        watts = self.watts()
        self.readings.append((time.perf_counter(), watts))


def find(sysfs: Path) -> tuple[list[Channel], str]:
    """Return the supplies that are measured here, and why there is none."""
    chips = [
        folder for folder in sorted((sysfs / "class" / "hwmon").glob("hwmon*")) if _text(folder / "name") == "ina3221"
    ]
    channels = [
        Channel(chip, number, label)
        for chip in chips
        for number in _CHANNELS
        if (label := _text(chip / f"in{number}_label")) not in _NOT_CONNECTED and _works(chip, number)
    ]
    return channels, "" if channels else "no INA3221 in /sys/class/hwmon"


def _works(chip: Path, number: int) -> bool:
    try:
        Channel(chip, number, "").watts()
    except (OSError, ValueError):  # a channel that is switched off says ENODATA
        return False
    return True


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def _number(file: Path) -> int:
    return int(file.read_text())
