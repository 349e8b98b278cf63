"""What this machine is: the facts that a measurement is worthless without. Standard library only."""

from __future__ import annotations

import os
import platform
from pathlib import Path

# The instruction sets that decide how fast, and for int8 how exactly, a model runs.
_NOTABLE_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm", "sve")


def cores() -> int:
    """Return how many processors this process may use (affinity and cgroup masks counted, not the whole machine)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def saturates_int8() -> bool:
    """Return whether products of int8 may saturate here: on an x86 processor that is not known to have VNNI."""
    sets = describe()["instruction_sets"]
    on_x86 = platform.machine().lower() in ("x86_64", "amd64", "i386", "i686")
    return on_x86 and not {"avx512_vnni", "avx_vnni"}.intersection(sets if isinstance(sets, list) else ())


def gpus() -> str:
    """Return what the system calls its NVIDIA GPUs, or the Jetson that holds one; empty where it names none."""
    cards = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    lines = [line for card in cards for line in _read(card).splitlines() if line.startswith("Model:")]
    models = [line.removeprefix("Model:").strip() for line in lines]
    return ", ".join(models) or _read("/proc/device-tree/model").rstrip("\0")


def describe() -> dict[str, str | int | list[str]]:
    """Return cpu, instruction_sets, cores, memory_bytes, governor, system and python of this machine."""
    cpu, flags = _cpu()
    return {
        "cpu": cpu,
        "instruction_sets": [flag for flag in _NOTABLE_FLAGS if flag in flags],
        "cores": cores(),
        "memory_bytes": _memory_bytes(),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or "unknown",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _cpu() -> tuple[str, frozenset[str]]:
    facts: dict[str, str] = {}
    for line in _read("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    name = facts.get("model name") or _read("/proc/device-tree/model").rstrip("\0") or platform.processor()
    return name or platform.machine(), frozenset((facts.get("flags") or facts.get("Features") or "").split())


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""
