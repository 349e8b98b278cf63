"""NVML, the driver's counters of energy of NVIDIA GPUs (Volta or newer), through the package nvidia-ml-py.

Source: NVML's reference: nvmlDeviceGetTotalEnergyConsumption gives mJ since the driver was loaded. GPUs are in NVML's
order, all of them: which one CUDA calls its first is a matter of settings. Nobody has run this on the hardware yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tledge.schema import EnergySource

_MILLI = 1e-3


@dataclass(slots=True)
class Gpu:
    """One GPU; `handle` is NVML's."""

    handle: Any
    part: str
    source: EnergySource = "nvml"
    before_mj: int = 0

    def start(self) -> None:
        """Begin to count."""
        self.before_mj = self.read_mj()

    def joules(self) -> float:
        """Return the energy in J since `start`."""
        return _MILLI * (self.read_mj() - self.before_mj)

    def read_mj(self) -> int:
        """Return the counter, in mJ. Raises NVMLError for a GPU without one."""
        import pynvml

        return pynvml.nvmlDeviceGetTotalEnergyConsumption(self.handle)


def find() -> tuple[list[Gpu], str]:
    """Return the GPUs that count their energy, and why others do not, or that there are none."""
    try:
        import pynvml
    except ImportError:
        return [], "no NVML (nvidia-ml-py is not installed: pip install 'tledge[bench]')"
    gpus, reason = [], ""
    try:
        pynvml.nvmlInit()
        for number in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(number)
            gpu = Gpu(handle, f"GPU {number} ({pynvml.nvmlDeviceGetName(handle)})")
            gpu.read_mj()
            gpus.append(gpu)
    except pynvml.NVMLError as error:
        reason = f"NVML does not tell ({error})"
    return gpus, reason
