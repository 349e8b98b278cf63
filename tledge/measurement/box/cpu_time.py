"""Where the time of the processors went: to this process, to others, to other virtual machines; and what was refused.

Source: proc_stat(5) for /proc/stat; the kernel's Documentation/admin-guide/cgroup-v2.rst and scheduler/sched-bwc.rst
for cpu.stat of control groups.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tledge.measurement.box.machine_state import own_cores, text

_IDLE, _IOWAIT, _STEAL, _FIELDS = 3, 4, 7, 8  # what follows, time of guests, is in the first two already
_NANO, _MICRO = 1e-9, 1e-6


@dataclass(frozen=True, slots=True)
class CpuTime:
    """Times since some start, in seconds: what counts is the difference of two.

    `total`, `busy` and `steal` are of the processors that this process may use, 0 where the system does not tell;
    `throttled` is how long limits of control groups held processes of ours up, None where there are none.
    """

    at: float
    own: float
    total: float
    busy: float
    steal: float
    throttled: float | None


def read(root: Path = Path("/")) -> CpuTime:
    """Return the times now: of this process with its children, and of the machine with /proc and /sys below `root`."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = time.process_time() + children.ru_utime + children.ru_stime
    total, busy, steal = _machine(text(root / "proc/stat"), own_cores())
    return CpuTime(time.monotonic(), own, total, busy, steal, _throttled(root))


def _machine(stat: str, cores: Sequence[int]) -> tuple[float, float, float]:
    mine = {f"cpu{core}" for core in cores}
    rows = [line.split()[1:] for line in stat.splitlines() if line.partition(" ")[0] in mine]
    tick = 1 / os.sysconf("SC_CLK_TCK")
    times = [[tick * int(each) for each in row[:_FIELDS]] for row in rows if len(row) >= _FIELDS]
    total = sum(sum(row) for row in times)
    steal = sum(row[_STEAL] for row in times)
    return total, total - steal - sum(row[_IDLE] + row[_IOWAIT] for row in times), steal


def _throttled(root: Path) -> float | None:
    """Return the seconds of all control groups that this process is in, however deep, of version 2 or 1."""
    found = []
    for line in text(root / "proc/self/cgroup").splitlines():
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number == "0":
            found += _waited(root / "sys/fs/cgroup", path)
        elif "cpu" in controllers.split(","):
            found += _waited(root / "sys/fs/cgroup" / controllers, path) or _waited(root / "sys/fs/cgroup/cpu", path)
    return sum(found) if found else None


def _waited(mount: Path, path: str) -> list[float]:
    """Return the seconds of the group `path` and of each above it; in a container, of what is mounted for it."""
    parts = [part for part in path.split("/") if part]
    folders = [mount.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]
    return [seconds for folder in folders if (seconds := _throttled_seconds(text(folder / "cpu.stat"))) is not None]


def _throttled_seconds(stat: str) -> float | None:
    facts = dict(line.split()[:2] for line in stat.splitlines() if len(line.split()) >= 2)
    if "throttled_usec" in facts:
        return _MICRO * int(facts["throttled_usec"])
    return _NANO * int(facts["throttled_time"]) if "throttled_time" in facts else None
