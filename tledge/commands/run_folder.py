"""A run folder: run.json, model.onnx, head.npz, predictions.csv, report.html."""

from __future__ import annotations

import csv
import io
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tledge import documents, places
from tledge.errors import TledgeError
from tledge.schema import LinearHead, Sample

RUN_JSON, MODEL, HEAD, PREDICTIONS, REPORT = "run.json", "model.onnx", "head.npz", "predictions.csv", "report.html"
FILES = (RUN_JSON, MODEL, HEAD, PREDICTIONS, REPORT)
_KEYS = {"data": str, "test_data": str | None, "options": dict, "classes": list, "fingerprint": str}
_OPTIONS = {"backbone": str, "head": str, "test_fraction": float, "seed": int, "strict": bool, "provider": str}
_NO_HEAD = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


def read_run(run: Path) -> dict[str, Any]:
    """Return run.json of the folder `run` (or the file `run`) as written. Raises TledgeError when it is no run."""
    path = run / RUN_JSON if places.is_folder(run) else run
    if places.is_folder(run) and not path.is_file():
        raise TledgeError(
            f"{run} is not a run folder: it holds no {RUN_JSON}.", "Make one with 'tledge train DATA --out RUN'."
        )
    document = documents.read(path, "run", tuple(_KEYS))
    odd = [key for key, kind in _KEYS.items() if not isinstance(document[key], kind)]
    odd += [f"options.{key}" for key in _odd_options(document["options"])] if not odd else []
    if odd:
        raise TledgeError(f"{path} is not a run that this version of tledge reads: '{odd[0]}' is odd.", "Train again.")
    return document


def _odd_options(options: dict[str, Any]) -> list[str]:
    wrong = [key for key, kind in _OPTIONS.items() if type(options.get(key)) is not kind]
    return wrong + sorted(options.keys() - _OPTIONS.keys())


def head_bytes(head: LinearHead, classes: Sequence[str]) -> bytes:
    """Return `head` as an .npz: weights float32 [d, classes], bias float32 [classes], l2, and the class names."""
    buffer = io.BytesIO()
    np.savez(buffer, weights=head.weights, bias=head.bias, l2=head.l2, classes=np.array(classes, np.str_))
    return buffer.getvalue()


def read_head(run: Path, dimension: int, classes: int) -> LinearHead:
    """Return the head of the run folder `run`, which must take `dimension` features and give `classes` probabilities.

    Nothing in the file is executed. Raises TledgeError when it is missing, damaged or of another shape.
    """
    try:
        with np.load(run / HEAD, allow_pickle=False) as stored:
            head = LinearHead(stored["weights"], stored["bias"], float(stored["l2"]))
        _check_numbers(head.weights, (dimension, classes))
        _check_numbers(head.bias, (classes,))
    except _NO_HEAD as error:
        raise TledgeError(f"{run / HEAD} is missing or damaged.", "Train again with 'tledge train'.") from error
    return head


def _check_numbers(array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape or array.dtype.kind != "f" or not np.isfinite(array).all():
        raise ValueError(f"expected {shape} finite numbers, found {array.dtype} {array.shape}")


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
