"""Documents of `tledge bench` for tests: measured ones, and what is made of them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

Document = dict[str, Any]


def changed(document: Document, **parts: Any) -> Document:
    """Return a copy of `document` with other values in it."""
    return copy.deepcopy(document) | parts


def slowed(document: Document, factor: float) -> Document:
    """Return a copy of `document` whose latencies are `factor` times as long."""
    made = copy.deepcopy(document)
    for name, value in made["scenarios"]["single_stream"].items():
        if name.endswith("_ms"):
            made["scenarios"]["single_stream"][name] = value and value * factor
    if "offline" in made["scenarios"]:
        made["scenarios"]["offline"]["samples_per_second"] /= factor
    if made.get("reference"):
        made["reference"]["ratio"] *= factor
    return made


def full(document: Document) -> Document:
    """Return `document` with every part that a bench may have, as its dataclasses say."""
    made = copy.deepcopy(document)
    single = made["scenarios"]["single_stream"]
    p50 = single["p50_ms"]
    single["histogram"] = {"edges_ms": [p50 / 2, p50, 2 * p50, 4 * p50], "counts": [10, 80, 10]}
    single["timeline"] = [{"start_s": start, "p50_ms": p50, "p99_ms": 2 * p50} for start in (0.0, 1.0, 2.0)]
    stage = {"p50_ms": 1.5, "p99_ms": 2.5, "mean_ms": 1.75}
    whole = dict.fromkeys(("decode", "resize", "run", "label", "whole", "model_alone"), stage)
    made["end_to_end"] = [{"samples": "640 × 480", "files": 3, "extent": "pixels", "passes": 2, **whole}]
    made["resources"] = {"peak_bytes": 171_000_000, "cpu_seconds_per_inference": 0.0238, "energy": None}
    made["conditions"] = {"warnings": ["Other processes took 23 % of the cores."]}
    made["budgets"] = [
        {"name": "max_p99_ms", "limit": 25.0, "found": 31.0, "holds": False},
        {"name": "max_memory_mb", "limit": 200.0, "found": 171.0, "holds": True},
    ]
    return made


def judged(document: Document, outcome: str, ratio: float | None = 1.08) -> Document:
    """Return `document` with a verdict of that outcome."""
    verdict = {
        "outcome": outcome,
        "against": "old.onnx",
        "ratio": ratio,
        "low": ratio and ratio - 0.02,
        "high": ratio and ratio + 0.02,
        "max_regression": 0.05,
        "pairs": 812,
        "seconds": 21.4,
        "reason": f"{ratio} × the old latency, and 99 % of it.",
    }
    return changed(document, verdict=verdict)


def save(document: Document, path: Path) -> Path:
    """Write `document` to `path`; return `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path
