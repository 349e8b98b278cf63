"""Refuse what would not fit into memory before it is unpacked: a small file may unfold to any size."""

from __future__ import annotations

from pathlib import Path

from tledge import machine
from tledge.errors import DataError


def require_room(path: Path, size_bytes: int) -> None:
    """Raise DataError when the contents of `path`, `size_bytes` unpacked, are more than this machine's memory."""
    memory_bytes = machine.describe()["memory_bytes"]
    if isinstance(memory_bytes, int) and 0 < memory_bytes < size_bytes:
        raise DataError(
            f"{path} says it holds {size_bytes / 2**30:,.1f} GiB; this machine has {memory_bytes / 2**30:,.1f} GiB of "
            "memory.",
            "Give a part of it, or the pictures as files.",
        )
