"""Sizes as a person writes them."""

from __future__ import annotations

import re

from tledge.errors import TledgeError

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def in_bytes(size: str | int) -> int:
    """Return how many bytes `size` is: bytes, or like '500M', '1.5 GiB'. Raises TledgeError for anything else."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", str(size), re.IGNORECASE)
    if not match:
        raise TledgeError(
            f"A size must be bytes, or a number with K, M, G or T behind it; got '{size}'.", "For example: 500M."
        )
    return int(float(match[1]) * _UNITS[match[2].upper()])
