"""The fixed workload: a small convolutional network, always the same, that stored figures are relative to.

The file holds convolutions of the kinds that networks are made of (pointwise, depthwise, 3 × 3) and two dense layers,
49 million multiply-adds in float32. Its weights are one constant each, filled in when it is loaded, so that it weighs
3 kB; how fast arithmetic is does not depend on them. A file that differs from the one that a baseline was measured
with makes the baseline useless, so it does not change: `tests/test_gate.py` holds its digest.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from tledge import seal

FILE = "workload.onnx"


def path() -> Path:
    """Return where the workload's ONNX file is."""
    return Path(str(resources.files("tledge.measurement.judging") / FILE))


def digest() -> str:
    """Return the SHA-256 of the workload's file in hex: figures relative to another one do not compare."""
    return seal.digest(path().read_bytes())
