"""What all that measures energy has in common."""

from __future__ import annotations

from typing import Protocol

from tledge.schema import EnergySource


class Meter(Protocol):
    """Measures the energy that one `part` of the box takes; `part` is the name that `source` gives it."""

    source: EnergySource
    part: str

    def start(self) -> None:
        """Begin to count."""

    def joules(self) -> float:
        """Return the energy in J since `start`; to be asked once."""
