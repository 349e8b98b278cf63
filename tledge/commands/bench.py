"""`tledge bench`: how fast a model file runs here, and whether that is slower than before."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tledge import __version__, documents, engine, machine, measurement, places
from tledge.commands.clock import Clock, Progress
from tledge.commands.pipeline import now
from tledge.errors import TledgeError
from tledge.runtime import Predictor
from tledge.schema import BenchResult, Offline, SingleStream, Verdict

SCENARIOS = ("single_stream", "offline")
# Threads that spin after a run, waiting for the next, would take the cores from the other model of a pair.
_IN_PAIRS = {"session.force_spinning_stop": "1"}
_BASELINE_KEYS = ("schema_version", "machine", "provider", "threads", "scenarios")


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
    _check(scenarios, seconds, threads)
    if save:
        places.check_free(Path(save), force=force)
    baseline = _baseline(Path(against)) if against else None
    clock = Clock(on_progress)
    start = time.perf_counter()
    predictor = Predictor(model, provider=provider, threads=threads)
    load_ms = 1000 * (time.perf_counter() - start)
    clock.tell("Warming up", 0, 0)
    warm = measurement.warm_up(predictor)
    wanted = tuple(dict.fromkeys([*scenarios, *(("single_stream",) if isinstance(baseline, dict) else ())]))
    measured = {name: _measure(name, predictor, seconds / len(wanted), clock) for name in wanted}
    result = BenchResult(
        schema_version=1,
        tledge_version=__version__,
        created=now(),
        model=str(model),
        digest=predictor.digest,
        bytes=predictor.bytes,
        precision=predictor.manifest.precision,
        provider=predictor.provider,
        threads=engine.threads_of(predictor.session),
        onnxruntime=str(engine.installed()["version"]),
        machine=machine.describe(),
        load_ms=load_ms,
        warmup_runs=warm,
        scenarios=measured,
        verdict=_verdict(predictor, baseline, measured, str(against), max_regression, seconds, clock),
    )
    if save:
        places.write_whole(Path(save), documents.to_json(result).encode())
    return result


def _measure(name: str, predictor: Predictor, seconds: float, clock: Clock) -> SingleStream | Offline:
    clock.tell(f"Measuring {name.replace('_', ' ')}", 0, 0)
    return getattr(measurement, name)(predictor, seconds)


def _verdict(
    predictor: Predictor,
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
        setting = {"provider": predictor.provider, "threads": engine.threads_of(predictor.session)}
        now_ = measured["single_stream"]
        return measurement.against_baseline(now_, machine.describe(), setting, baseline, against, max_regression)
    clock.tell("Comparing in pairs", 0, 0)
    setting = {"provider": predictor.provider, "threads": engine.threads_of(predictor.session), "tune": _IN_PAIRS}
    pair = Predictor(predictor.path, **setting), Predictor(baseline, **setting)
    return measurement.against_model(*pair, max_regression, seconds)


def _baseline(path: Path) -> dict[str, Any] | Path:
    """Return the document in a .json file, or the path of a model file."""
    if path.suffix.lower() != ".json":
        return path
    document = documents.read(path, "bench document", _BASELINE_KEYS)
    if "single_stream" not in document["scenarios"]:
        raise TledgeError(
            f"{path} holds no single_stream figures to compare with.", "Save it again with 'tledge bench --save'."
        )
    return document


def _check(scenarios: Sequence[str], seconds: float, threads: int | None) -> None:
    unknown = [name for name in scenarios if name not in SCENARIOS]
    if unknown or not scenarios:
        raise TledgeError(f"Scenario must be one of {', '.join(SCENARIOS)}, got '{', '.join(unknown)}'.")
    if seconds <= 0:
        raise TledgeError(f"Seconds must be above 0, got {seconds:g}.")
    if threads is not None and threads < 1:
        raise TledgeError(f"Threads must be at least 1, got {threads}.")
