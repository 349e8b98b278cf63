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
from tledge.measurement import in_turn
from tledge.measurement.judging import gate, intervals, workload
from tledge.measurement.judging.pairs import Opener
from tledge.measurement.subject import open_subject
from tledge.schema import Reference

# Threads that spin after a run, waiting for the next, would take the cores from the other model of a pair.
_TUNE = {"session.force_spinning_stop": "1"}


def main(order: dict[str, Any]) -> dict[str, Any]:
    """Return verdict, reference and latencies, each where it was asked for, or the error that came in between."""
    own_threads = order["provider"] == "cpu" and not engine.share_threads(order["threads"]) and order["threads"] > 1
    try:
        return _judged(order, intervals.OWN_THREADS_SD if own_threads else intervals.OPENING_SD)
    except TledgeError as error:
        return {"error": {"kind": type(error).__name__, "message": error.message, "hint": error.hint}}


def _judged(order: dict[str, Any], opening_sd: float) -> dict[str, Any]:
    if order["judge"] == "latencies":
        models = [Path(each) for each in order["models"]]
        return {"p50_ms": in_turn.median_latencies_ms(models, order["provider"], order["seconds"])}
    new, seconds = _opener(order, Path(order["model"])), order["seconds"]
    if order["judge"] == "model":
        asked = (new, _opener(order, Path(order["old"])), order["name"], order["max_regression"], seconds)
        return {"verdict": asdict(gate.against_model(*asked, p99=order["p99"], opening_sd=opening_sd))}
    fixed = _opener({**order, "input_file": None}, workload.path())
    if order["judge"] == "baseline":
        asked = (new, fixed, documents.typed(Reference, order["then"]), order["name"], order["max_regression"], seconds)
        verdict, reference = gate.against_baseline(*asked, opening_sd=opening_sd)
        return {"verdict": asdict(verdict), "reference": asdict(reference)}
    found = gate.against_reference(new, fixed, workload.digest(), seconds, opening_sd=opening_sd)
    return {"reference": asdict(found)}


def _opener(order: dict[str, Any], path: Path) -> Opener:
    given = {name: order[name] for name in ("provider", "threads", "input_file")}
    return lambda: open_subject(path, tune=_TUNE, **given)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.loads(sys.argv[1]))) + "\n")
