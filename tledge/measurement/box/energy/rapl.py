"""RAPL, the counters of energy in x86 processors, as Linux shows them below /sys/class/powercap.

Source: the kernel's Documentation/power/powercap/powercap.rst. A zone has `name` (package-0, core, uncore, dram, psys),
`energy_uj`, a counter of microjoules that starts again from 0 once it has reached `max_energy_range_uj`. Since Linux
5.10 only root may read it. Nobody has run this on the hardware yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tledge.schema import EnergySource

_MICRO = 1e-6


@dataclass(slots=True)
class Zone:
    """A zone of RAPL in the folder `path`. It must be asked before its counter has started again twice.

    A counter of 262 kJ, a common range, takes 40 minutes for that at 100 W.
    """

    path: Path
    part: str
    range_uj: int
    source: EnergySource = "rapl"
    before_uj: int = 0

    def start(self) -> None:
        """Begin to count."""
        self.before_uj = _number(self.path / "energy_uj")

    def joules(self) -> float:
        """Return the energy in J since `start`."""
        return _MICRO * ((_number(self.path / "energy_uj") - self.before_uj) % (self.range_uj + 1))


def find(sysfs: Path) -> tuple[list[Zone], str]:
    """Return the zones that can be read, and why others cannot, or that there are none.

    Zones of the control type intel-rapl-mmio are left out: they are the packages once more, by another road.
    """
    folders = sorted((sysfs / "class" / "powercap").glob("intel-rapl:*"))
    if not folders:
        return [], "no RAPL in /sys/class/powercap"
    zones, reason = [], ""
    names = {folder.name: _name(folder) for folder in folders}
    for folder in folders:
        try:
            _number(folder / "energy_uj")
            zones.append(Zone(folder, _part(folder.name, names), _number(folder / "max_energy_range_uj")))
        except (OSError, ValueError) as error:
            reason = f"RAPL cannot be read ({getattr(error, 'strerror', None) or error}; root may)"
    return zones, reason


def _part(zone: str, names: dict[str, str]) -> str:
    """Return package-0, psys, or package-0/core for a zone inside another."""
    outer = zone.rpartition(":")[0]
    return f"{names[outer]}/{names[zone]}" if outer in names else names[zone]


def _name(folder: Path) -> str:
    try:
        return (folder / "name").read_text().strip()
    except OSError:
        return folder.name


def _number(file: Path) -> int:
    return int(file.read_text())
