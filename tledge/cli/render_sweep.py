"""The document of `tledge bench --sweep` for people: a table of settings, and which to use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tledge.cli.tables import line, quoted, size, table
from tledge.schema import BenchResult, Sweep, SweepChoice, SweepRow

_AIMS = {"fastest": "the lowest latency", "most": "the highest throughput", "leanest": "the least processor time"}
_OBJECTIVES = {
    "p50_ms": "latency",
    "samples_per_second": "throughput",
    "accuracy": "accuracy",
    "cpu_ms_per_sample": "processor time",
}
_MOST_TIED = 3


def sweep(result: BenchResult, console: Any) -> None:
    """Show what each setting came to, which are worth having, and which to use, as code."""
    found = result.sweep
    if found is None:
        return
    where = f"onnxruntime {result.onnxruntime}, {result.machine['cpu']}, {result.machine['cores']} cores"
    line(console, f"{result.model} ({result.precision}, {size(result.bytes)}) on {where}")
    several = len({row.model for row in found.rows}) > 1
    columns = [name for name in ("precision", "provider", "threads", "preset", "batch") if name in found.axes]
    titles = (*columns, *_file_titles(several), "p50 ms", "p99 ms", "samples/s", "cpu ms/sample", "best")
    table(console, titles, [_row(row, columns, several) for row in found.rows])
    *others, last = (_OBJECTIVES[name] for name in found.objectives)
    aims = f"{', '.join(others)} and {last}"
    line(console, f"* the Pareto front: no other one is at least as good in {aims}, and better in one of them.")
    if found.pause_ms:
        line(console, f"Latency and processor time are of queries {found.pause_ms:.0f} ms after the last answer.")
    for note in found.notes:
        line(console, f"note: {note}")
    line(console, f"{len(found.rows)} settings in turn, {found.rounds} rounds, {found.seconds:.0f} s")
    if found.plot:
        line(console, f"Plot: {found.plot}")
    _use(found, [name for name in columns if len(found.axes[name]) > 1] or columns, console)
    best = found.rows[found.fastest.row]
    line(console, f"Next: tledge bench {quoted(best.model)} --provider {best.provider} --threads {best.threads}")


def _file_titles(several: bool) -> tuple[str, ...]:
    return ("file", "size", "accuracy") if several else ()


def _row(row: SweepRow, columns: list[str], several: bool) -> tuple[str, ...]:
    accuracy = "" if row.accuracy is None else f"{row.accuracy:.4f}"
    file = (Path(row.model).name, size(row.bytes), accuracy) if several else ()
    last = f"failed: {row.failed}" if row.failed else "*" if row.pareto else ""
    figures = (row.p50_ms, row.p99_ms, row.samples_per_second, row.cpu_ms_per_sample)
    return (*(str(getattr(row, name)) for name in columns), *file, *map(_figure, figures), last)


def _figure(value: float | None) -> str:
    """Return `value` with four digits at most, and as many as a reading of a clock deserves."""
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 1000 else f"{value:.{max(0, 3 - len(str(int(value))))}f}"


def _use(found: Sweep, columns: list[str], console: Any) -> None:
    aims: dict[str, list[str]] = {}
    for name in _AIMS:
        choice: SweepChoice = getattr(found, name)
        aims.setdefault(choice.predictor + choice.onnxruntime, []).append(name)
    for code, names in aims.items():
        line(console, "")
        for name in names:
            choice = getattr(found, name)
            setting = _setting(found.rows[choice.row], columns)
            line(console, f"Use, for {_AIMS[name]}: {setting}{_tied(found, choice, columns)}")
        for each in code.splitlines():
            line(console, f"    {each}")


def _tied(found: Sweep, choice: SweepChoice, columns: list[str]) -> str:
    if not choice.tied:
        return ""
    others = "; ".join(_setting(found.rows[row], columns) for row in choice.tied[:_MOST_TIED])
    more = f"; {len(choice.tied) - _MOST_TIED} more" if len(choice.tied) > _MOST_TIED else ""
    return f" (as good, as far as can be told: {others}{more})"


def _setting(row: SweepRow, columns: list[str]) -> str:
    words = {"precision": Path(row.model).name}
    return ", ".join(words.get(name) or f"{name} {getattr(row, name)}" for name in columns)
