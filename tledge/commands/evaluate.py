"""`tledge evaluate`: a model file on labelled samples."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tledge import data as sources
from tledge import places
from tledge.commands import pipeline
from tledge.commands.clock import Progress
from tledge.commands.predict import read_batches
from tledge.errors import DataError
from tledge.runtime import Predictor
from tledge.schema import EvaluateResult, Problem, Sample


def evaluate(
    model: str | Path,
    data: str | Path,
    *,
    provider: str = "auto",
    strict: bool = False,
    on_progress: Progress | None = None,
) -> EvaluateResult:
    """Return the metrics of the model file `model` on every sample of `data`, whose classes must be the model's own.

    Samples that cannot be read are listed, or an error when `strict`. Raises ModelError and DataError.
    """
    start = time.perf_counter()
    model, data = places.at(model), places.at(data)
    predictor = Predictor(model, provider=provider)
    manifest = predictor.manifest
    columns = getattr(manifest.preprocess, "columns", ())
    samples, skipped = sources.load_labelled(data, manifest.classes, manifest.multilabel, columns)
    kept, rows, unread = _run(predictor, samples, on_progress)
    problems = (*skipped, *unread)
    if problems and strict:
        raise DataError(f"{problems[0].path}: {problems[0].reason}.", f"{len(problems)} files cannot be used.")
    if not kept:
        raise DataError(
            f"{data} must hold at least one {predictor.reader.noun} that can be read, found none.", "Check the path."
        )
    return EvaluateResult(
        schema_version=1,
        model=str(model),
        data=str(data),
        samples=len(kept),
        precision=manifest.precision,
        provider=predictor.provider,
        metrics=pipeline.measure(rows, kept, manifest.classes, manifest.thresholds, manifest.multilabel),
        seconds=time.perf_counter() - start,
        skipped=problems,
    )


def _run(
    predictor: Predictor, samples: Sequence[Sample], on_progress: Progress | None
) -> tuple[list[Sample], np.ndarray, list[Problem]]:
    kept: list[Sample] = []
    parts: list[np.ndarray] = []
    unread: list[Problem] = []
    done = 0
    names = [sample.path for sample in samples]
    sources = [Path(sample.path) if sample.value is None else sample.value for sample in samples]
    spans = [sample.part for sample in samples]
    for readable, batch, problems in read_batches(names, sources, predictor, spans):
        unread.extend(problems)
        kept.extend(samples[done + i] for i in readable)
        if len(batch):
            parts.append(predictor.run_windows(batch))
        done += len(readable) + len(problems)
        if on_progress:
            on_progress("Evaluating", done, len(samples))
    return kept, np.concatenate(parts) if parts else np.empty((0, len(predictor.classes)), np.float32), unread
