"""A run folder: run.json, model.onnx, head.npz, predictions.csv, report.html."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tledge import decisions, documents, engine, heads, places
from tledge.errors import TledgeError
from tledge.runtime import Predictor
from tledge.schema import Backbone, Dataset, Head, Sample, TrainOptions

RUN_JSON, MODEL, HEAD, PREDICTIONS, REPORT = "run.json", "model.onnx", "head.npz", "predictions.csv", "report.html"
BACKBONE, KERAS = "backbone.onnx", "network.keras"  # of a run that fine-tuned its backbone
FILES = (RUN_JSON, MODEL, HEAD, PREDICTIONS, REPORT, BACKBONE, KERAS)
_KEYS = {"data": str, "test_data": str | None, "options": dict, "classes": list, "fingerprint": str}
_FACTS = ("kind", "facts", "thresholds", "classes")  # entries of head.npz that are no numbers of the head
_NO_HEAD = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error, TledgeError)


def read_run(run: Path) -> dict[str, Any]:
    """Return run.json of the folder `run` (or the file `run`) as written. Raises TledgeError when it is no run."""
    path = run / RUN_JSON if places.is_folder(run) else run
    if places.is_folder(run) and not path.is_file():
        raise TledgeError(
            f"{run} is not a run folder: it holds no {RUN_JSON}.", "Make one with 'tledge train DATA --out RUN'."
        )
    document = documents.read(path, "run", tuple(_KEYS))
    odd = [key for key, kind in _KEYS.items() if not isinstance(document[key], kind)]
    try:
        options_of(document)
    except ValueError as error:
        odd.append(f"options.{error}")
    if odd:
        raise TledgeError(f"{path} is not a run that this version of tledge reads: '{odd[0]}' is odd.", "Train again.")
    return document


def options_of(document: dict[str, Any]) -> TrainOptions:
    """Return the options of a run that `read_run` gave. Raises ValueError that names an odd one."""
    options = document["options"]
    return documents.typed(TrainOptions, options if isinstance(options, dict) else {})


def head_bytes(head: Head, classes: Sequence[str]) -> bytes:
    """Return `head` as an .npz: its arrays by name, kind, facts as JSON, thresholds, and the class names."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        **head.arrays,
        kind=np.array(head.kind),
        facts=np.array(json.dumps(head.facts)),
        thresholds=np.array(head.thresholds),
        classes=np.array(classes, np.str_),
    )
    return buffer.getvalue()


def read_head(run: Path, dimension: int, classes: int) -> Head:
    """Return the head of the run folder `run`, which must take `dimension` features and give `classes` probabilities.

    Nothing in the file is executed. Raises TledgeError when it is missing, damaged or of another shape.
    """
    try:
        with np.load(run / HEAD, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files if name not in _FACTS}
            kind, facts = str(stored["kind"]), json.loads(str(stored["facts"]))
            thresholds = tuple(float(each) for each in stored["thresholds"])
        if any(each.dtype.kind == "f" and not np.isfinite(each).all() for each in arrays.values()):
            raise ValueError("numbers that are not finite")
        head = Head(kind, arrays, facts, thresholds)
        if heads.probabilities(head, np.zeros((1, dimension), np.float32)).shape != (1, classes):
            raise ValueError("of another shape")
    except _NO_HEAD as error:
        raise TledgeError(f"{run / HEAD} is missing or damaged.", "Train again with 'tledge train'.") from error
    return head


def read_backbone(run: Path) -> Backbone:
    """Return the backbone that the run in the folder `run` fine-tuned.

    Raises ModelError when the run's model cannot be read, TledgeError when the backbone is not the one it was made of.
    """
    manifest, path = Predictor(run / MODEL, provider="cpu").manifest, run / BACKBONE
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise TledgeError(f"{path} cannot be read: {error.strerror}.", "Train again with 'tledge train'.") from error
    if digest != manifest.backbone_digest:
        raise TledgeError(f"{path} is not the backbone of {run / MODEL}.", "Train again with 'tledge train'.")
    (features,) = engine.open_session(path, provider="cpu", name=str(path)).get_outputs()
    spec, licence = manifest.preprocess, manifest.licence
    return Backbone(manifest.backbone, path, spec, features.shape[1], digest, licence=licence)


def predictions_csv(
    samples: Sequence[Sample], probabilities: np.ndarray, dataset: Dataset, thresholds: tuple[float, ...]
) -> bytes:
    """Return one line per test sample: path, label, predicted, probability, and the probability of every class.

    Several labels stand in one field, with | between them; `probability` is then that of the most probable class.
    """
    names = dataset.classes
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["path", "label", "predicted", "probability", *names])
    decided = decisions.predicted(probabilities, thresholds, dataset.multilabel)
    for sample, row, chosen in zip(samples, probabilities, decided, strict=True):
        truth = sample.labels if dataset.multilabel else (sample.label,)
        predicted = np.flatnonzero(chosen)
        best = int(row.argmax()) if dataset.multilabel else int(predicted[0])
        shares = [f"{p:.6f}" for p in row]
        words = ("|".join(names[i] for i in labels) for labels in (truth, predicted))
        writer.writerow([sample.path, *words, shares[best], *shares])
    return text.getvalue().encode("utf-8", "surrogateescape")
