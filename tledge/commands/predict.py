"""`tledge predict`: a model file on pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tledge import machine, places, preprocess
from tledge.commands.clock import Progress
from tledge.errors import DataError
from tledge.runtime import BATCH, Predictor
from tledge.schema import Prediction, PredictResult, PreprocessSpec, Problem


def predict(
    model: str | Path,
    paths: Sequence[str | Path],
    *,
    provider: str = "auto",
    on_progress: Progress | None = None,
) -> PredictResult:
    """Return a prediction for each picture in `paths`; a folder stands for every file below it.

    Pictures that cannot be read are listed in `skipped`. Raises ModelError for the model file, DataError when there is
    nothing to predict.
    """
    model = places.at(model)
    predictor = Predictor(model, provider=provider)
    listed = [file for path in paths for file in _files(places.at(path))]
    if not listed:
        raise DataError("At least one picture is needed, found none.", "Name picture files or folders that hold some.")
    predictions: list[Prediction] = []
    skipped: list[Problem] = []
    done = 0
    for readable, images, problems in read_batches(listed, predictor.manifest.preprocess):
        skipped.extend(problems)
        rows = predictor.run(images) if len(images) else []
        predictions += [predictor.prediction(listed[done + i], row) for i, row in zip(readable, rows, strict=True)]
        done += len(readable) + len(problems)
        if on_progress:
            on_progress("Predicting", done, len(listed))
    return PredictResult(1, str(model), predictor.provider, tuple(predictions), tuple(skipped))


def read_batches(paths: Sequence[str], spec: PreprocessSpec) -> Iterator[tuple[list[int], np.ndarray, list[Problem]]]:
    """Yield, for each run of paths, which of them were read, their pixels uint8 [n, height, width, 3], and the rest.

    The next batch is decoded, on every core, while the caller works on this one.
    """
    starts = range(0, len(paths), BATCH)
    with ThreadPoolExecutor(machine.cores()) as pool:
        decoding = [pool.map(lambda path: _read(path, spec), paths[start : start + BATCH]) for start in starts[:1]]
        for start in starts:
            outcomes = list(decoding.pop())
            following = paths[start + BATCH : start + 2 * BATCH]
            decoding.append(pool.map(lambda path: _read(path, spec), following))
            images = [outcome for outcome in outcomes if isinstance(outcome, np.ndarray)]
            readable = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, np.ndarray)]
            problems = [outcome for outcome in outcomes if isinstance(outcome, Problem)]
            yield readable, np.stack(images) if images else np.empty(0, np.uint8), problems


def _read(path: str, spec: PreprocessSpec) -> np.ndarray | Problem:
    image = np.empty((spec.height, spec.width, 3), np.uint8)
    try:
        preprocess.load_into(path, spec, image)
    except DataError as error:
        return Problem(path, error.message)
    return image


def _files(path: Path) -> list[str]:
    if not places.is_folder(path):
        return [str(path)]
    return sorted(str(file) for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
