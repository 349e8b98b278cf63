"""`tledge train --backbone a,b,c`: the same data on several backbones, accuracy against latency measured here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tledge import documents, measurement, places
from tledge.commands.clock import Clock, Note, Progress
from tledge.commands.train import check, train
from tledge.errors import TledgeError
from tledge.schema import Compared, CompareResult, TrainResult

COMPARISON = "comparison.json"
_LATENCY_S = 3.0


def compare(
    data: str | Path,
    out: str | Path,
    *,
    backbones: Sequence[str],
    test_data: str | Path | None = None,
    force: bool = False,
    on_progress: Progress | None = None,
    on_note: Note | None = None,
    **options: Any,
) -> CompareResult:
    """Train on each of `backbones`, each into a run folder of its own below `out`, and compare them.

    `options` are those of `train`. Every backbone is tested on the same samples; latency is that of the float model at
    batch 1 on this machine, one model after the other. Raises what `train` raises, before the first backbone is trained
    where that can be known; runs that were complete when a later one failed stay in `out`.
    """
    names = list(dict.fromkeys(backbones))
    if not names:
        raise TledgeError("A comparison needs backbones, none was named.", "Use --backbone a,b, for instance.")
    folders = _folders(places.at(out), names)
    target = places.at(out) / COMPARISON
    for name, folder in folders.items():
        check(data, folder, test_data=test_data, force=force, backbone=name, **options)
    places.check_free_file(target, force=force)
    clock = Clock(on_progress, on_note)
    places.at(out).mkdir(parents=True, exist_ok=True)
    compared = []
    for name, folder in folders.items():
        clock.note(f"Backbone {name}")
        result = train(
            data, folder, test_data=test_data, force=force, on_progress=on_progress, backbone=name, **options
        )
        compared.append((result, _p50_ms(result, clock)))
    document = CompareResult(
        schema_version=1,
        out=str(places.at(out)),
        data=compared[0][0].data,
        test_samples=compared[0][0].samples.test,
        backbones=_fastest_first(compared),
        seconds=clock.seconds()["total"],
    )
    places.write_whole(target, documents.to_json(document).encode())
    return document


def _folders(out: Path, names: Sequence[str]) -> dict[str, Path]:
    """Return a run folder for each backbone: its name, or the name of its file without the ending."""
    folders = {name: out / (Path(name).stem if "/" in name or "." in name else name) for name in names}
    if len(set(folders.values())) < len(folders):
        raise TledgeError(
            "Backbones that are compared need different names, two of the files are called alike.", "Rename one."
        )
    return folders


def _p50_ms(result: TrainResult, clock: Clock) -> float:
    clock.tell("Measuring latency", 0, 0)
    subject = measurement.open_subject(result.model, provider=result.provider)
    measurement.warm_up(subject)
    return measurement.single_stream(subject, _LATENCY_S).p50_ms


def _fastest_first(compared: Sequence[tuple[TrainResult, float]]) -> tuple[Compared, ...]:
    rows, best = [], -1.0
    for result, p50_ms in sorted(compared, key=lambda each: (each[1], -each[0].metrics.accuracy)):
        accuracy = result.metrics.accuracy
        rows.append(
            Compared(
                backbone=result.backbone,
                run=result.run,
                accuracy=accuracy,
                macro_f1=result.metrics.macro_f1,
                p50_ms=p50_ms,
                bytes=result.bytes,
                seconds=result.seconds["total"],
                pareto=accuracy > best,
            )
        )
        best = max(best, accuracy)
    return tuple(rows)
