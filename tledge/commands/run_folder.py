"""A run folder: run.json, model.onnx, head.npz, predictions.csv, report.html."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tledge import documents
from tledge.errors import TledgeError
from tledge.schema import LinearHead, Sample

RUN_JSON, MODEL, HEAD, PREDICTIONS, REPORT = "run.json", "model.onnx", "head.npz", "predictions.csv", "report.html"
_KEYS = ("backbone", "head", "data", "options", "classes", "fingerprint", "metrics")


def read_run(run: Path) -> dict[str, Any]:
    """Return run.json of the folder `run` (or of a run.json itself) as written. Raises TledgeError when it is no run."""
    path = run / RUN_JSON if run.is_dir() else run
    if not path.is_file():
        raise TledgeError(
            f"{run} is not a run folder: it holds no {RUN_JSON}.", "Make one with 'tledge train DATA --out RUN'."
        )
    return documents.read(path, "run", _KEYS)


def head_bytes(head: LinearHead, classes: Sequence[str]) -> bytes:
    """Return `head` as an .npz: weights float32 [d, classes], bias float32 [classes], l2, and the class names."""
    buffer = io.BytesIO()
    np.savez(buffer, weights=head.weights, bias=head.bias, l2=head.l2, classes=np.array(classes, np.str_))
    return buffer.getvalue()


def read_head(run: Path) -> LinearHead:
    """Return the head of the run folder `run`; nothing in the file is executed."""
    try:
        with np.load(run / HEAD, allow_pickle=False) as stored:
            return LinearHead(stored["weights"], stored["bias"], float(stored["l2"]))
    except (OSError, ValueError, KeyError) as error:
        raise TledgeError(f"{run / HEAD} is missing or damaged.", "Train again with 'tledge train'.") from error


def predictions_csv(samples: Sequence[Sample], probabilities: np.ndarray, classes: Sequence[str]) -> bytes:
    """Return one line per test sample: path, label, predicted, probability, and the probability of every class."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["path", "label", "predicted", "probability", *classes])
    for sample, row in zip(samples, probabilities, strict=True):
        best = int(row.argmax())
        shares = [f"{p:.6f}" for p in row]
        writer.writerow([sample.path, classes[sample.label], classes[best], shares[best], *shares])
    return text.getvalue().encode("utf-8", "surrogateescape")
