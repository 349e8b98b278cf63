"""`tledge bench`: how fast a model file runs here, and whether that is slower than before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tledge import __version__, documents, engine, installation, machine, measurement, places
from tledge.commands.clock import Clock, Progress
from tledge.commands.pipeline import now
from tledge.errors import TledgeError, did_you_mean
from tledge.schema import BenchResult, Offline, SingleStream, Verdict

SCENARIOS = ("single_stream", "offline")
# Threads that spin after a run, waiting for the next, would take the cores from the other model of a pair.
_IN_PAIRS = {"session.force_spinning_stop": "1"}
_BASELINE_KEYS = ("schema_version", "machine", "provider", "threads", "scenarios")
_BASELINE_FIGURES = ("p50_ms", "p50_low_ms", "p50_high_ms")
_MOST_THREADS = 64  # or one per core, if there are more


def bench(
    model: str | Path,
    *,
    scenarios: Sequence[str] = SCENARIOS,
    provider: str = "auto",
    threads: int | None = None,
    seconds: float = 10.0,
    against: str | Path | None = None,
    max_regression: float = 0.05,
    save: str | Path | None = None,
    force: bool = False,
    on_progress: Progress | None = None,
) -> BenchResult:
    """Measure the model file `model` for about `seconds`, after a warm-up.

    `against` is another model file, judged in interleaved pairs, or the document of an earlier bench on this machine;
    the verdict is a regression when latency grew by more than the share `max_regression`. `save` keeps the document.
    Raises TledgeError for an unknown scenario, a model or baseline that cannot be used, or a `save` that is taken.
    """
    _check(scenarios, seconds, threads, max_regression)
    model, save = places.at(model), places.at(save) if save else None
    if save:
        places.check_free_file(save, force=force)
    baseline = _baseline(places.at(against)) if against else None
    clock = Clock(on_progress)
    subject = measurement.open_subject(model, provider=provider, threads=threads)
    clock.tell("Warming up", 0, 0)
    warm = measurement.warm_up(subject)
    wanted = tuple(dict.fromkeys([*scenarios, *(("single_stream",) if isinstance(baseline, dict) else ())]))
    measured = {name: _measure(name, subject, seconds / len(wanted), clock) for name in wanted}
    result = BenchResult(
        schema_version=1,
        tledge_version=__version__,
        created=now(),
        model=str(model),
        digest=subject.digest,
        bytes=subject.bytes,
        precision=subject.precision,
        provider=subject.provider,
        threads=subject.threads,
        onnxruntime=str(installation.describe()["version"]),
        machine=machine.describe(),
        load_ms=subject.load_ms,
        warmup_runs=warm,
        scenarios=measured,
        verdict=_verdict(subject, provider, baseline, measured, str(against), max_regression, seconds, clock),
        nodes_elsewhere=subject.nodes_elsewhere,
    )
    if save:
        places.write_whole(save, documents.to_json(result).encode())
    return result


def _measure(name: str, subject: measurement.Subject, seconds: float, clock: Clock) -> SingleStream | Offline:
    clock.tell(f"Measuring {name.replace('_', ' ')}", 0, 0)
    return getattr(measurement, name)(subject, seconds)


def _verdict(
    subject: measurement.Subject,
    provider: str,
    baseline: dict[str, Any] | Path | None,
    measured: dict[str, Any],
    against: str,
    max_regression: float,
    seconds: float,
    clock: Clock,
) -> Verdict | None:
    if baseline is None:
        return None
    if isinstance(baseline, dict):
        setting = {"provider": subject.provider, "threads": subject.threads}
        now_ = measured["single_stream"]
        return measurement.against_baseline(now_, machine.describe(), setting, baseline, against, max_regression)
    clock.tell("Comparing in pairs", 0, 0)
    provider = engine.resolved(provider, subject.session)
    setting = {"provider": provider, "threads": subject.threads, "tune": _IN_PAIRS}
    pair = measurement.open_subject(subject.path, **setting), measurement.open_subject(baseline, **setting)
    return measurement.against_model(*pair, max_regression, seconds)


def _baseline(path: Path) -> dict[str, Any] | Path:
    """Return the document in a .json file, or the path of a model file."""
    if path.suffix.lower() != ".json":
        return path
    document = documents.read(path, "bench document", _BASELINE_KEYS)
    single = document["scenarios"].get("single_stream") if isinstance(document["scenarios"], dict) else None
    figures = [single.get(key) for key in _BASELINE_FIGURES] if isinstance(single, dict) else [None]
    sound = isinstance(document["machine"], dict) and all(isinstance(f, float | int) and f > 0 for f in figures)
    if not sound:
        raise TledgeError(
            f"{path} holds no single_stream figures to compare with.", "Save it again with 'tledge bench --save'."
        )
    return document


def _check(scenarios: Sequence[str], seconds: float, threads: int | None, max_regression: float) -> None:
    for name in scenarios:
        if name not in SCENARIOS:
            raise TledgeError(f"There is no scenario called '{name}'.", did_you_mean(name, SCENARIOS))
    if not scenarios:
        raise TledgeError("At least one scenario is needed, found none.", did_you_mean("", SCENARIOS))
    if not 0 < seconds < math.inf:
        raise TledgeError(f"Seconds must be above 0 and finite, got {seconds:g}.")
    if not 0 <= max_regression < math.inf:
        raise TledgeError(f"The largest regression must be a share of 0 or more, got {max_regression:g}.")
    most = max(_MOST_THREADS, machine.cores())
    if threads is not None and not 1 <= threads <= most:
        raise TledgeError(f"Threads must be between 1 and {most}, got {threads}.")
