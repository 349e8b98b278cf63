"""What the columns `start` and `end` of a table say: the part of a sound that a row is about, in seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping

Part = tuple[float, float]


def part_of(columns: Mapping[str, str]) -> Part | None:
    """Return the part that a row names, None when its cells are empty or not there; it starts at 0 if only it ends.

    Raises ValueError, its text the reason, for what are no seconds, for a part that ends before it starts, and for one
    that does not end.
    """
    start, end = (columns.get(name, "").strip() for name in ("start", "end"))
    if not start and not end:
        return None
    if not end:
        raise ValueError("has a start, but no end")
    part = _seconds(start or "0"), _seconds(end)
    if not 0 <= part[0] < part[1]:
        raise ValueError(f"must end after it starts, at 0 s or later; found {start or 0} to {end}")
    return part


def _seconds(cell: str) -> float:
    try:
        seconds = float(cell)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise ValueError(f"its start and end must be seconds; found {cell[:40]!r}")
    return seconds
