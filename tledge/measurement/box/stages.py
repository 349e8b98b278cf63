"""From the bytes of a picture file to a label, each stage timed apart, on the road that `Predictor` takes."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import numpy as np

from tledge.decode import decode
from tledge.errors import DataError, TledgeError
from tledge.measurement.box.sample_pictures import Pictures
from tledge.measurement.load.scenarios import timed
from tledge.measurement.subject import Subject
from tledge.modalities.image import fit_into, whole
from tledge.runtime import Predictor
from tledge.schema import EndToEnd, Prediction, PreprocessSpec, Stage

_STAGES = ("decode", "resize", "run", "label")


def end_to_end(subject: Subject, pictures: Pictures, seconds: float) -> EndToEnd:
    """Take `pictures` in random order through every stage for `seconds`, each at least twice.

    The first pass over them is not timed. Raises DataError for a picture that cannot be read.
    """
    predictor = predictor_of(subject)
    shapes = [_first(predictor, name, content) for name, content in pictures.files]
    order, rows, alone = random.Random(0), [], []
    end = time.perf_counter() + seconds
    while not rows or time.perf_counter() < end:
        for which in order.sample(range(len(pictures.files)), len(pictures.files)):
            _, times, row = one(predictor, pictures.files[which][1])
            rows.append(times)
            alone.append(timed(lambda row=row: predictor.run(row[None])))
    stages = dict(zip(_STAGES, map(_stage, zip(*rows, strict=True)), strict=True))
    if predictor.manifest.input == "image":
        stages["resize"] = None
    return EndToEnd(
        pictures=pictures.name,
        files=len(pictures.files),
        mean_pixels=float(np.mean([height * width for height, width in shapes])),
        mean_bytes=float(np.mean([len(content) for _, content in pictures.files])),
        passes=len(rows),
        whole=_stage([sum(times) for times in rows]),
        model_alone=_stage(alone),
        **stages,
    )


def predictor_of(subject: Subject) -> Predictor:
    """Return the predictor of a model that takes pictures in a way we know. Raises TledgeError for any other."""
    predictor = subject.predictor
    if predictor is None or not isinstance(predictor.manifest.preprocess, PreprocessSpec):
        what = "was not exported by tledge" if predictor is None else f"takes {predictor.reader.noun}s"
        raise TledgeError(
            f"End to end is for models that tledge exported for pictures, and {subject.path} {what}.",
            "Leave out '--end-to-end' and '--pictures'.",
        )
    return predictor


def one(predictor: Predictor, content: bytes) -> tuple[Prediction, tuple[float, ...], np.ndarray]:
    """Return the prediction for a picture file, the seconds of decode, resize, run and label, and its pixels.

    Pixels are what the graph takes, uint8 [H, W, 3]. The stages are those of `Predictor.load`, `run` and `prediction`;
    where the graph resizes, that stage takes no time.
    """
    clock = time.perf_counter
    start = clock()
    if predictor.manifest.input == "image":
        row = whole(content)
        decoded = resized = clock()
    else:
        spec = predictor.manifest.preprocess
        pixels = decode(content, (spec.height, spec.width))
        decoded = clock()
        row = np.empty((spec.height, spec.width, 3), np.uint8)
        fit_into(pixels, spec, row)
        resized = clock()
    (probabilities,) = predictor.run(row[None])
    ran = clock()
    prediction = predictor.prediction("", probabilities)
    labelled = clock()
    return prediction, (decoded - start, resized - decoded, ran - resized, labelled - ran), row


def _first(predictor: Predictor, name: str, content: bytes) -> tuple[int, ...]:
    """Take a picture through once, so that caches are warm and it is known to be sound; return its height and width."""
    try:
        one(predictor, content)
        return decode(content).shape[:2]
    except DataError as error:
        raise DataError(f"Picture {name}: {error.message}.", "Replace or remove it.") from error


def _stage(seconds: Sequence[float]) -> Stage:
    ms = 1000 * np.array(seconds)
    p50, p99 = (float(q) for q in np.quantile(ms, [0.5, 0.99]))
    return Stage(p50, p99, float(ms.mean()))
