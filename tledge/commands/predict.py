"""`tledge predict`: a model file on samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tledge import machine, places
from tledge.commands.clock import Progress
from tledge.data import unlabelled
from tledge.errors import DataError
from tledge.modalities.reader import Part
from tledge.runtime import Predictor
from tledge.schema import Prediction, PredictResult, Problem

Source = Path | str | bytes | np.ndarray


def predict(
    model: str | Path,
    paths: Sequence[str | Path],
    *,
    provider: str = "auto",
    on_progress: Progress | None = None,
) -> PredictResult:
    """Return a prediction for each sample in `paths`: picture files, or .npy and .npz files of pictures or vectors.

    A folder stands for every file below it. Samples that cannot be read are listed in `skipped`. Raises ModelError for
    the model file, DataError when there is nothing to predict.
    """
    model = places.at(model)
    predictor = Predictor(model, provider=provider)
    names, sources = _listed([file for path in paths for file in _files(places.at(path))])
    if not names:
        raise DataError("At least one picture is needed, found none.", "Name picture files or folders that hold some.")
    predictions: list[Prediction] = []
    skipped: list[Problem] = []
    done = 0
    for readable, batch, problems in read_batches(names, sources, predictor):
        skipped.extend(problems)
        rows = predictor.run_windows(batch) if batch else []
        predictions += [predictor.prediction(names[done + i], row) for i, row in zip(readable, rows, strict=True)]
        done += len(readable) + len(problems)
        if on_progress:
            on_progress("Predicting", done, len(names))
    return PredictResult(1, str(model), predictor.provider, tuple(predictions), tuple(skipped))


def _listed(files: Sequence[str]) -> tuple[list[str], list[Source]]:
    names: list[str] = []
    sources: list[Source] = []
    for file in files:
        if Path(file).suffix.lower() in unlabelled.SUFFIXES:
            for name, value in unlabelled.read(file):
                names.append(name)
                sources.append(value)
        else:
            names.append(file)
            sources.append(Path(file))
    return names, sources


def read_batches(
    names: Sequence[str], sources: Sequence[Source], predictor: Predictor, parts: Sequence[Part | None] | None = None
) -> Iterator[tuple[list[int], list[list[np.ndarray]], list[Problem]]]:
    """Yield, for each run of samples, which were read, these as `run_windows` takes them, and what is wrong otherwise.

    Where `parts` are given, only those of the sounds are read. The next batch is decoded, on every core, while the
    caller works on this one.
    """
    parts = parts or [None] * len(names)
    size = predictor.at_once
    starts = range(0, len(names), size)

    def batch_from(start: int) -> Iterator[list[np.ndarray] | Problem]:
        these = slice(start, start + size)
        given = names[these], sources[these], parts[these]
        return pool.map(lambda name, source, part: _read(name, source, part, predictor), *given)

    with ThreadPoolExecutor(machine.cores()) as pool:
        decoding = [batch_from(start) for start in starts[:1]]
        for start in starts:
            outcomes = list(decoding.pop())
            decoding.append(batch_from(start + size))
            rows = [outcome for outcome in outcomes if not isinstance(outcome, Problem)]
            readable = [i for i, outcome in enumerate(outcomes) if not isinstance(outcome, Problem)]
            problems = [outcome for outcome in outcomes if isinstance(outcome, Problem)]
            yield readable, rows, problems


def _read(name: str, source: Source, part: Part | None, predictor: Predictor) -> list[np.ndarray] | Problem:
    try:
        return predictor.reader.windows(source, part)
    except DataError as error:
        return Problem(name, error.message)


def _files(path: Path) -> list[str]:
    if not places.is_folder(path):
        return [str(path)]
    return sorted(str(file) for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
