"""From the bytes of a sample's file to a label, each stage timed apart, on the road that `Predictor` takes."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from tledge.errors import DataError, TledgeError
from tledge.measurement.box.sample_files import SampleFiles
from tledge.measurement.load.scenarios import timed
from tledge.measurement.subject import Subject
from tledge.runtime import Predictor
from tledge.schema import EndToEnd, Prediction, Stage

_READING = ("decode", "resize", "tokenize")


def end_to_end(subject: Subject, samples: SampleFiles, seconds: float) -> EndToEnd:
    """Take `samples` in random order through every stage for `seconds`, each at least twice.

    The first pass over them is not timed. Raises DataError for one that cannot be read.
    """
    predictor = predictor_of(subject)
    extents = [_first(predictor, name, content) for name, content in samples.files]
    order, stages, alone = random.Random(0), [], []
    end = time.perf_counter() + seconds
    while not stages or time.perf_counter() < end:
        for which in order.sample(range(len(samples.files)), len(samples.files)):
            _, times, rows = one(predictor, samples.files[which][1])
            stages.append(times)
            alone.append(timed(lambda rows=rows: predictor.run_windows([rows])))
    names = (*predictor.reader.steps, "run", "label")
    found: dict[str, Any] = dict(zip(names, map(_stage, zip(*stages, strict=True)), strict=True))
    return EndToEnd(
        samples=samples.name,
        files=len(samples.files),
        extent=predictor.reader.extent,
        mean_extent=float(np.mean(extents)),
        mean_bytes=float(np.mean([len(content) for _, content in samples.files])),
        passes=len(stages),
        whole=_stage([sum(times) for times in stages]),
        model_alone=_stage(alone),
        **dict.fromkeys(_READING) | found,
    )


def predictor_of(subject: Subject) -> Predictor:
    """Return the predictor of a model that takes files in a way we know. Raises TledgeError for any other."""
    predictor = subject.predictor
    if predictor is None or not predictor.reader.steps:
        what = "was not exported by tledge" if predictor is None else f"takes {predictor.reader.noun}s"
        raise TledgeError(
            f"End to end is for models that tledge exported for pictures, sounds or texts, and {subject.path} {what}.",
            "Leave out '--end-to-end' and '--samples'.",
        )
    return predictor


def one(predictor: Predictor, content: bytes) -> tuple[Prediction, list[float], list[np.ndarray]]:
    """Return the prediction for the bytes of a file, the seconds of each stage, and the rows that the graph took.

    The stages are the `steps` of the model's reader, then run and label: what `Predictor` does.
    """
    clock = time.perf_counter
    ends = [clock()]
    rows = predictor.reader.in_steps(content, lambda: ends.append(clock()))
    (probabilities,) = predictor.run_windows([rows])
    ends.append(clock())
    prediction = predictor.prediction("", probabilities)
    ends.append(clock())
    return prediction, np.diff(ends).tolist(), rows


def _first(predictor: Predictor, name: str, content: bytes) -> float:
    """Take a sample through once, so that caches are warm and it is known to be sound; return how large it is."""
    try:
        one(predictor, content)
        return predictor.reader.extent_of(content)
    except DataError as error:
        noun = predictor.reader.noun.capitalize()
        raise DataError(f"{noun} {name}: {error.message}.", "Replace or remove it.") from error


def _stage(seconds: Sequence[float]) -> Stage:
    ms = 1000 * np.array(seconds)
    p50, p99 = (float(q) for q in np.quantile(ms, [0.5, 0.99]))
    return Stage(p50, p99, float(ms.mean()))
