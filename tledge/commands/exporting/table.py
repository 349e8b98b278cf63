"""The table of what could have been exported, and its place in the run's report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tledge import places, report
from tledge.errors import MissingExtra, OutputError
from tledge.schema import CandidateFigures, Comparison, ExportResult


def row(precision: str, found: Comparison, chosen: bool, reason: str = "", float_layers: int = 0) -> CandidateFigures:
    """Return the row of a candidate that compares with the float model as `found` says."""
    worst = found.classes[0] if found.classes else None
    return CandidateFigures(
        precision=precision,
        float_layers=float_layers,
        bytes=found.bytes,
        p50_ms=found.p50_ms,
        accuracy=found.accuracy.after,
        drop=100 * (found.accuracy.before - found.accuracy.after),
        errors=found.errors.after,
        error_ratio=found.errors.ratio,
        worst_class=worst.name if worst else "",
        worst_class_drop=worst.drop if worst else 0.0,
        agreement=found.parity.agreement,
        chosen=chosen,
        reason=reason,
    )


def into_report(path: Path, asked: str, result: ExportResult, note: Callable[[str], None]) -> None:
    """Add `result` to the run's report at `path`, where there is one; what keeps it out is a `note`, not an error.

    The model has been written by then, and the report can be made again.
    """
    try:
        page = report.add_export(path.read_text("utf-8"), asked, result)
        if page is None:
            note(f"{path} has no place for exports: it was written by an older version. It stays as it is.")
        else:
            places.write_whole(path, page.encode())
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError, OutputError, MissingExtra) as error:
        note(f"The export could not be added to {path}: {error}")
