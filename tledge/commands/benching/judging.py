"""The judging step of `tledge bench`: against another model file, or against the document of an earlier bench."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tledge import documents, engine, machine, measurement
from tledge.errors import TledgeError
from tledge.measurement.judging import apart, workload
from tledge.schema import Reference, Verdict

_BASELINE_KEYS = ("schema_version", "machine", "provider", "threads", "reference")
_MOST_S = 10.0
_SAME_MACHINE = ("cpu", "instruction_sets", "cores", "memory_bytes")


@dataclass(frozen=True, slots=True)
class Judging:
    """What to judge by: a model file or a `Baseline`, None for nothing; the rest as `bench` takes it."""

    against: Path | Baseline | None
    max_regression: float
    p99: bool
    allow_other_machine: bool

    @property
    def document(self) -> dict[str, Any] | None:
        """The document of the baseline, None where there is none."""
        return self.against.document if isinstance(self.against, Baseline) else None


@dataclass(frozen=True, slots=True)
class Baseline:
    """The document of an earlier bench, and what of it is compared."""

    path: Path
    document: dict[str, Any]
    reference: Reference


def asked(against: Path | None, max_regression: float, *, p99: bool, allow_other_machine: bool) -> Judging:
    """Return what was asked for, the baseline read. Raises TledgeError when that cannot be judged by."""
    if not 0 <= max_regression < math.inf:
        raise TledgeError(f"The largest regression must be a share of 0 or more, got {max_regression:g}.")
    found = _baseline(against) if against and against.suffix.lower() == ".json" else against
    if p99 and not isinstance(found, Path):
        raise TledgeError(
            "The 99th percentile is judged in pairs with another model, found none to compare with.",
            "Give '--against OLD.onnx'.",
        )
    return Judging(found, max_regression, p99, allow_other_machine)


def judge(
    subject: measurement.Subject, provider: str, judging: Judging, seconds: float, tell: Callable[[str], None]
) -> tuple[Verdict | None, Reference]:
    """Return the verdict, if one was asked for, and how `subject` compares with the fixed workload.

    `provider` is what was asked for when it was opened. `seconds` bounds the verdict; the workload alone takes a
    quarter of them, or of ten.
    """
    setting = {
        "provider": engine.resolved(provider, subject.session),
        "threads": subject.threads,
        "input_file": subject.samples.source,
    }
    model, against, limit = subject.path, judging.against, judging.max_regression
    if isinstance(against, Baseline):
        if differs := _differs(subject, against, judging.allow_other_machine):
            tell("Comparing with the fixed workload")
            return _not_comparable(against, differs, judging), _reference(model, setting, seconds)
        tell("Comparing with the baseline")
        return apart.against_baseline(model, against.reference, str(against.path), setting, limit, seconds)
    verdict = None
    if against:
        tell("Comparing in pairs")
        verdict = apart.against_model(model, against, setting, limit, seconds, p99=judging.p99)
    tell("Comparing with the fixed workload")
    return verdict, _reference(model, setting, seconds)


def _reference(model: Path, setting: apart.Setting, seconds: float) -> Reference:
    return apart.against_reference(model, setting, min(seconds, _MOST_S) / 4)


def _differs(subject: measurement.Subject, baseline: Baseline, allow_other_machine: bool) -> list[str]:
    """Return in what the baseline was measured otherwise than `subject` is here, so that they do not compare."""
    here, there = machine.describe(), baseline.document["machine"]
    found = [] if allow_other_machine else [key for key in _SAME_MACHINE if here.get(key) != there.get(key)]
    setting = {"provider": subject.provider, "threads": subject.threads}
    found += [key for key, value in setting.items() if baseline.document[key] != value]
    return found + (["fixed workload"] if baseline.reference.workload != workload.digest() else [])


def _not_comparable(baseline: Baseline, differs: list[str], judging: Judging) -> Verdict:
    hint = " '--allow-other-machine' compares all the same." if set(differs) <= set(_SAME_MACHINE) else ""
    reason = f"The baseline was measured with another {', '.join(differs)}: its figures do not compare.{hint}"
    return Verdict("inconclusive", str(baseline.path), None, None, None, judging.max_regression, 0, 0.0, reason)


def _baseline(path: Path) -> Baseline:
    document = documents.read(path, "bench document", _BASELINE_KEYS)
    try:
        reference = documents.typed(Reference, document["reference"])
        figures = reference.ratio, reference.low, reference.high, reference.p50_ms
        if not (all(0 < each < math.inf for each in figures) and figures[1] <= figures[0] <= figures[2]):
            raise ValueError("ratio")
        if not isinstance(document["machine"], dict):
            raise ValueError("machine")
    except (AttributeError, TypeError, ValueError) as error:
        raise TledgeError(
            f"{path} holds no figures to compare with.", "Save it again with 'tledge bench --save'."
        ) from error
    return Baseline(path, document, reference)
