"""Judge and compare in a process of its own, in which all models run on the same threads.

Each session of onnxruntime has threads of its own, and they stay on the core where they last were. Where a neighbour
keeps one core busy, one model of a pair may find its second thread there for as long as it is open, the other not: the
same model was up to 2.5 times as slow as itself. With one pool of threads for both it is within 3 %. onnxruntime takes
such a pool before the first session of a process only, hence a fresh one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tledge import documents, errors, machine
from tledge.errors import TledgeError
from tledge.measurement import in_turn
from tledge.measurement.box import fresh_process
from tledge.schema import Quantile, Reference, Verdict

_PROGRAM = Path(__file__).with_name("apart_program.py")
Setting = dict[str, Any]


def against_model(
    new: Path, old: Path, setting: Setting, max_regression: float, seconds: float, *, p99: bool = False
) -> Verdict:
    """Return `gate.against_model` of the files `new` and `old`, opened as `setting` says.

    `setting` has provider, threads and input_file as `open_subject` takes them. Raises TledgeError when one of them
    cannot be opened or run.
    """
    asked = {"judge": "model", "old": str(old.absolute()), "name": str(old), "max_regression": max_regression}
    return _verdict(_ask(new, setting, seconds, {**asked, "p99": p99}))


def against_baseline(
    model: Path, then: Reference, name: str, setting: Setting, max_regression: float, seconds: float
) -> tuple[Verdict, Reference]:
    """Return `gate.against_baseline` of the file `model` and the figures `then` of a baseline called `name`."""
    asked = {"judge": "baseline", "then": asdict(then), "name": name, "max_regression": max_regression}
    found = _ask(model, setting, seconds, asked)
    return _verdict(found), documents.typed(Reference, found["reference"])


def against_reference(model: Path, setting: Setting, seconds: float) -> Reference:
    """Return `gate.against_reference` of the file `model` and the fixed workload."""
    found = _ask(model, setting, seconds, {"judge": "reference"})
    return documents.typed(Reference, found["reference"])


def median_latencies_ms(models: Sequence[Path], provider: str, seconds: float) -> list[float]:
    """Return `in_turn.median_latencies_ms` of the files `models`.

    On a GPU it is measured in this process: threads matter little there, and what TensorRT says while it builds engines
    is heard here alone.
    """
    if provider != "cpu":
        return in_turn.median_latencies_ms(models, provider, seconds)
    setting = {"provider": provider, "threads": machine.cores(), "input_file": None}
    asked = {"judge": "latencies", "models": [str(each.absolute()) for each in models]}
    return _ask(models[0], setting, seconds, asked)["p50_ms"]


def _ask(model: Path, setting: Setting, seconds: float, asked: dict[str, Any]) -> dict[str, Any]:
    order = {**setting, "model": str(model.absolute()), "seconds": seconds, **asked}
    found = fresh_process.ask(_PROGRAM, order, str(model), None)
    if "error" in found:
        said = found["error"]
        kind = getattr(errors, said["kind"], TledgeError)
        raise kind(said["message"], said["hint"])
    return found


def _verdict(found: dict[str, Any]) -> Verdict:
    said = dict(found["verdict"])
    p99 = said.pop("p99")
    return Verdict(**said, p99=Quantile(**p99) if p99 else None)
