"""How long a process takes from its start to its first result, in fresh processes."""

from __future__ import annotations

import tempfile
from statistics import median

from tledge.measurement.box import fresh_process
from tledge.measurement.subject import Subject
from tledge.schema import ColdStart

PROCESSES = 5


def cold_start(subject: Subject, provider: str, processes: int = PROCESSES) -> ColdStart:
    """Start `processes` processes, one after the other, that open the model of `subject` on `provider` and run it once.

    The time to make something to feed is not counted. With TensorRT one more builds the engine anew. Raises TledgeError
    when a process fails.
    """
    stages = [_stages(fresh_process.run(subject, provider)) for _ in range(processes)]
    totals = [sum(each) for each in stages]
    process, imports, session, first = (median(each) for each in zip(*stages, strict=True))
    return ColdStart(
        processes=processes,
        process_ms=process,
        import_ms=imports,
        session_ms=session,
        first_run_ms=first,
        total_ms=median(totals),
        total_min_ms=min(totals),
        total_max_ms=max(totals),
        engine_build_ms=_engine_build_ms(subject, provider, session) if subject.provider == "tensorrt" else None,
    )


def _stages(found: dict[str, float]) -> tuple[float, ...]:
    process, imports = found["started"] - found["spawned"], found["imported"] - found["started"]
    return tuple(1000 * seconds for seconds in (process, imports, found["session"], found["first_run"]))


def _engine_build_ms(subject: Subject, provider: str, session_ms: float) -> float:
    """Return what opening takes longer where no engine is kept. Not run on a GPU yet."""
    with tempfile.TemporaryDirectory(prefix="tledge-") as empty:
        found = fresh_process.run(subject, provider, environment={"TLEDGE_CACHE_DIR": empty})
    return max(0.0, 1000 * found["session"] - session_ms)
