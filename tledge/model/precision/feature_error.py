"""How far the features of a rounded graph are from the float ones: the measure that precision is chosen by."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tledge import engine


def features(graph: Path | bytes, name: str, batches: Iterable[dict[str, np.ndarray]]) -> np.ndarray:
    """Return what the `graph` of the backbone `name` makes of `batches`, float64 [n, dimension], on the CPU."""
    session = engine.open_session(graph, provider="cpu", name=f"Backbone {name}")
    return np.concatenate([session.run(["features"], each)[0] for each in batches]).astype(np.float64)


def relative(found: np.ndarray, exact: np.ndarray) -> float:
    """Return Σ (found - exact)² / Σ exact²."""
    scale = max(float(np.square(exact).sum()), np.finfo(np.float64).tiny)
    return float(np.square(found - exact).sum()) / scale
