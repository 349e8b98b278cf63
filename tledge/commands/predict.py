"""`tledge predict`: a model file on samples."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tledge import machine, places
from tledge.commands.clock import Progress
from tledge.data import unlabelled
from tledge.errors import DataError
from tledge.modalities import Source
from tledge.modalities.reader import Part
from tledge.runtime import Predictor
from tledge.schema import Prediction, PredictResult, Problem

STDIN = "-"


def predict(
    model: str | Path,
    paths: Sequence[str | Path] = (),
    *,
    texts: Sequence[str] = (),
    lines: str | Path | None = None,
    provider: str = "auto",
    on_progress: Progress | None = None,
) -> PredictResult:
    """Return a prediction for each sample in `paths`: files, .npy and .npz files, or tables of paths, texts or numbers.

    A folder stands for every file below it. Of a model of texts, `texts` are texts themselves, a file .txt is one text,
    and of the file `lines`, or of standard input where that or a path is "-", each line is one. What a prediction's
    `path` says is the file, the place (`questions.csv line 17`), or of `texts` the text. Samples that cannot be read
    are listed in `skipped`. Raises ModelError for the model file, DataError when there is nothing to predict.
    """
    model = places.at(model)
    predictor = Predictor(model, provider=provider)
    if (texts or lines is not None or STDIN in map(str, paths)) and predictor.reader.kind != "text":
        raise DataError(
            f"{model} takes {predictor.reader.noun}s, not texts.", f"Name files of {predictor.reader.noun}s."
        )
    columns = getattr(predictor.manifest.preprocess, "columns", ())
    names, sources, skipped = _listed(paths, texts, lines, columns)
    if not names and not skipped:
        noun = predictor.reader.noun
        raise DataError(f"At least one {noun} is needed, found none.", f"Name files of {noun}s, or folders of them.")
    predictions: list[Prediction] = []
    done = 0
    for readable, batch, problems in read_batches(names, sources, predictor):
        skipped.extend(problems)
        rows = predictor.run_windows(batch) if batch else []
        predictions += [predictor.prediction(names[done + i], row) for i, row in zip(readable, rows, strict=True)]
        done += len(readable) + len(problems)
        if on_progress:
            on_progress("Predicting", done, len(names))
    return PredictResult(1, str(model), predictor.provider, tuple(predictions), tuple(skipped))


def _listed(
    paths: Sequence[str | Path], texts: Sequence[str], lines: str | Path | None, columns: Sequence[str]
) -> tuple[list[str], list[Source], list[Problem]]:
    """Return what to call each sample, the sample as a reader takes it, and what cannot be one."""
    found: list[tuple[str, Source]] = []
    skipped: list[Problem] = []
    for path in paths:
        readable, odd = (_lines_of(path), []) if str(path) == STDIN else _samples_at(places.at(path), columns)
        found += readable
        skipped += odd
    found += zip(texts, texts, strict=True)
    found += [] if lines is None else _lines_of(lines)
    return [name for name, _ in found], [source for _, source in found], skipped


def _samples_at(path: Path, columns: Sequence[str]) -> tuple[list[tuple[str, Source]], list[Problem]]:
    if places.is_folder(path):  # where a table may be one of just the files that stand beside it
        return [each for file in _files(path) for each in _samples_in(file)], []
    return unlabelled.read(path, columns) if path.suffix.lower() in unlabelled.TABLES else (_samples_in(path), [])


def _samples_in(file: Path) -> list[tuple[str, Source]]:
    return unlabelled.read(file)[0] if file.suffix.lower() in unlabelled.ARRAYS else [(str(file), file)]


def _lines_of(path: str | Path) -> list[tuple[str, Source]]:
    if str(path) == STDIN:
        return unlabelled.lines(sys.stdin.buffer, "stdin")
    path = places.at(path)
    try:
        with path.open("rb") as file:
            return unlabelled.lines(file, str(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).", "Check the path.") from error


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


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
