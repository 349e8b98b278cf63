"""The budgets of a box: are they numbers that can hold, what has to be measured for them, and do they hold?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict

from tledge.errors import TledgeError
from tledge.schema import BenchResult, BoxBudgets, BudgetCheck

_SCENARIOS = {"max_p50_ms": "single_stream", "max_p99_ms": "single_stream", "min_throughput": "offline"}
_MB = 1_000_000


def check_asked(limits: BoxBudgets) -> None:
    """Raise TledgeError unless each budget is a finite number above 0."""
    for name, limit in _set(limits):
        if not 0 < limit < math.inf:
            option = f"--{name.replace('_', '-')}"
            raise TledgeError(f"{option} must be above 0 and finite, got {limit:g}.", "Leave it out to set no budget.")


def scenarios(limits: BoxBudgets) -> tuple[str, ...]:
    """Return the scenarios that must be measured to judge `limits`."""
    return tuple(dict.fromkeys(_SCENARIOS[name] for name, _ in _set(limits) if name in _SCENARIOS))


def judge(limits: BoxBudgets, result: BenchResult) -> tuple[BudgetCheck, ...]:
    """Return every budget of `limits` with what `result` has measured for it."""
    found = {
        "max_p50_ms": lambda: result.scenarios["single_stream"].p50_ms,
        "max_p99_ms": lambda: result.scenarios["single_stream"].p99_ms,
        "min_throughput": lambda: result.scenarios["offline"].samples_per_second,
        "max_memory_mb": lambda: result.resources.peak_bytes / _MB,
        "max_cold_start_ms": lambda: result.cold_start.total_ms,
    }
    return tuple(_judged(name, limit, found[name]()) for name, limit in _set(limits))


def _judged(name: str, limit: float, found: float) -> BudgetCheck:
    return BudgetCheck(name, limit, found, found >= limit if name.startswith("min_") else found <= limit)


def _set(limits: BoxBudgets) -> Iterator[tuple[str, float]]:
    return ((name, limit) for name, limit in asdict(limits).items() if limit is not None)
