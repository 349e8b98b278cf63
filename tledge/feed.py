"""Rows → the graph, in the form that its input has: any number at once, batches of one size, or rows of one shape.

What the input wants is read off the graph itself, so that files say it only once.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tledge.modalities import Reader

if TYPE_CHECKING:
    import onnxruntime


class Input(NamedTuple):
    """The `batch` that a graph is fixed to, None for any, and how many probabilities come out of it."""

    batch: int | None
    classes: int


def input_of(session: onnxruntime.InferenceSession) -> Input:
    """Return what the graph in `session` wants."""
    first = session.get_inputs()[0].shape[0]
    return Input(first if isinstance(first, int) else None, session.get_outputs()[0].shape[-1])


def probabilities(
    session: onnxruntime.InferenceSession, given: Input, rows: np.ndarray | Sequence[np.ndarray], reader: Reader
) -> np.ndarray:
    """Return `probabilities` float32 [N, classes] of the N `rows` that `reader` made, in their order.

    Rows that are worth it run together. A batch that is not full is filled up with zeros, whose results are dropped.
    """
    if isinstance(rows, np.ndarray) and given.batch is None and len(rows):
        return _run(session, reader, rows, None)
    found = np.empty((len(rows), given.classes), np.float32)
    for part in _parts(rows, given.batch, reader):
        found[part] = _run(session, reader, [rows[at] for at in part], given.batch)[: len(part)]
    return found


def _parts(rows: np.ndarray | Sequence[np.ndarray], batch: int | None, reader: Reader) -> list[list[int]]:
    """Return the places of the rows that run together."""
    buckets: dict[Hashable, list[int]] = {}
    for at, row in enumerate(rows):
        buckets.setdefault(reader.together(row), []).append(at)
    size = batch or max(len(rows), 1)
    return [places[start : start + size] for places in buckets.values() for start in range(0, len(places), size)]


def _run(
    session: onnxruntime.InferenceSession, reader: Reader, rows: np.ndarray | Sequence[np.ndarray], count: int | None
) -> np.ndarray:
    return session.run(["probabilities"], reader.feed(rows, count))[0]
