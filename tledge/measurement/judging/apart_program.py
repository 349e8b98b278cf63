"""What `apart.py` runs in a fresh process: one order as JSON in, what was found as JSON out.

python -P apart_program.py ORDER
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tledge import documents, engine
from tledge.errors import TledgeError
from tledge.measurement.judging import gate, intervals, workload
from tledge.measurement.judging.pairs import Opener
from tledge.measurement.subject import open_subject
from tledge.schema import Reference

# Threads that spin after a run, waiting for the next, would take the cores from the other model of a pair.
_TUNE = {"session.force_spinning_stop": "1"}


def main(order: dict[str, Any]) -> dict[str, Any]:
    """Return verdict and reference, each where it was asked for, or the error that came in between."""
    if order["provider"] == "cpu" and not engine.share_threads(order["threads"]) and order["threads"] > 1:
        intervals.OPENING_SD = intervals.OWN_THREADS_SD
    try:
        return _judged(order)
    except TledgeError as error:
        return {"error": {"kind": type(error).__name__, "message": error.message, "hint": error.hint}}


def _judged(order: dict[str, Any]) -> dict[str, Any]:
    new, fixed = _opener(order, order["model"]), _opener({**order, "input_file": None}, order["workload"])
    seconds, limit = order["seconds"], order.get("max_regression", 0.0)
    if order["judge"] == "model":
        verdict = gate.against_model(new, _opener(order, order["old"]), "", limit, seconds, p99=order["p99"])
        return {"verdict": asdict(verdict)}
    if order["judge"] == "baseline":
        then = documents.typed(Reference, order["then"])
        verdict, reference = gate.against_baseline(new, fixed, then, "", limit, seconds)
        return {"verdict": asdict(verdict), "reference": asdict(reference)}
    return {"reference": asdict(gate.against_reference(new, fixed, workload.digest(), seconds))}


def _opener(order: dict[str, Any], path: str) -> Opener:
    given = {name: order[name] for name in ("provider", "threads", "input_file")}
    return lambda: open_subject(Path(path), tune=_TUNE, **given)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.loads(sys.argv[1]))) + "\n")
