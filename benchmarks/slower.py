"""The same model, slower by a share that was measured: a side branch of matrix products whose result does not count.

The branch hangs on the model's own output, so that it runs after it, and onnxruntime cannot leave it out.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from benchmarks import processes
from tledge.measurement import open_subject
from tledge.measurement.judging import intervals
from tledge.measurement.judging.pairs import Opener, pairs

_WIDTH = 256
_SECONDS = 6.0
_CLOSE = 0.004
_STEPS = 8


def opener(path: Path, threads: int | None = None) -> Opener:
    """Return what opens the model at `path` for pairs, as `tledge bench --against` does."""
    return lambda: open_subject(path, threads=threads, tune={"session.force_spinning_stop": "1"})


def by(share: float, model: Path, target: Path) -> float:
    """Write `model` to `target` with as many extra nodes as make it slower by `share`; return the ratio measured.

    Meant for a quiet machine: the number of rows that go through the branch is moved until pairs say what was asked.
    """
    rows = 200.0
    for _ in range(_STEPS):
        _write(model, target, round(rows))
        ratio = _ratio(target, model)
        processes.say(f"{round(rows)} rows more are {ratio:.4f} × the latency")
        if abs(ratio - 1 - share) <= _CLOSE:
            break
        rows *= min(3.0, max(0.3, share / max(ratio - 1, share / 3)))
    return ratio


def _ratio(new: Path, old: Path) -> float:
    for found in pairs(opener(new), opener(old)):
        if sum(found.new_s) + sum(found.old_s) > _SECONDS:
            return intervals.of_medians(*found.arrays(), found.openings, 0.01).ratio
    raise AssertionError("pairs never end")


def _write(model: Path, target: Path, rows: int) -> None:
    import onnx
    from onnx import helper, numpy_helper

    found = onnx.load(model)
    graph, rng = found.graph, np.random.default_rng(0)
    (output,) = graph.output
    for node in graph.node:
        node.output[:] = [f"{name}_alone" if name == output.name else name for name in node.output]
    # Written again without seal and manifest: a file that tledge did not export.
    del found.metadata_props[:]
    found.producer_name = "benchmark"
    constants = {
        "branch_rows": rng.normal(0, 1, (rows, _WIDTH)),
        "branch_weights": rng.normal(0, 1 / math.sqrt(_WIDTH), (_WIDTH, _WIDTH)),
        "branch_share": np.zeros(()),
    }
    graph.initializer.extend(numpy_helper.from_array(v.astype(np.float32), name) for name, v in constants.items())
    graph.node.extend(
        [
            helper.make_node("ReduceMean", [f"{output.name}_alone"], ["branch_in"], keepdims=0),
            helper.make_node("Add", ["branch_rows", "branch_in"], ["branch_shifted"]),
            helper.make_node("MatMul", ["branch_shifted", "branch_weights"], ["branch_product"]),
            helper.make_node("ReduceMean", ["branch_product"], ["branch_mean"], keepdims=0),
            helper.make_node("Mul", ["branch_mean", "branch_share"], ["branch_out"]),
            helper.make_node("Add", [f"{output.name}_alone", "branch_out"], [output.name]),
        ]
    )
    onnx.save(found, target)
