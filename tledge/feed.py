"""Samples → the graph, in the form that its input has: any number at once, batches of one size, or one after the other.

What the input wants is read off the graph itself, so that files say it only once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import onnxruntime


class Input(NamedTuple):
    """What the input of a graph is called, and the `batch` that it is fixed to, None for any.

    With `any_size` it takes pictures of any height and width. `classes` is how many probabilities come out.
    """

    name: str
    batch: int | None
    any_size: bool
    classes: int


def input_of(session: onnxruntime.InferenceSession) -> Input:
    """Return what the one input of the graph in `session` wants."""
    (given,) = session.get_inputs()
    first, *rest = given.shape
    batch, any_size = first if isinstance(first, int) else None, not all(isinstance(each, int) for each in rest)
    return Input(given.name, batch, any_size, session.get_outputs()[0].shape[-1])


def probabilities(
    session: onnxruntime.InferenceSession, given: Input, rows: np.ndarray | Sequence[np.ndarray]
) -> np.ndarray:
    """Return `probabilities` float32 [N, classes] of the N samples in `rows`, in their order.

    `rows` is one array [N, …], or, where the graph takes any size, a list of uint8 [H, W, 3]. A batch that is not full
    is filled up with zeros, whose results are dropped.
    """
    if not len(rows):
        return np.empty((0, given.classes), np.float32)
    if given.any_size:
        parts = [_run(session, given.name, _full(each[None], given.batch or 1)) for each in rows]
        return np.concatenate([part[:1] for part in parts])
    rows = np.asarray(rows)
    if given.batch is None:
        return _run(session, given.name, rows)
    starts = range(0, len(rows), given.batch)
    parts = [rows[start : start + given.batch] for start in starts]
    return np.concatenate([_run(session, given.name, _full(part, given.batch))[: len(part)] for part in parts])


def _run(session: onnxruntime.InferenceSession, name: str, batch: np.ndarray) -> np.ndarray:
    return session.run(["probabilities"], {name: batch})[0]


def _full(rows: np.ndarray, batch: int) -> np.ndarray:
    if len(rows) == batch:
        return rows
    full = np.zeros((batch, *rows.shape[1:]), rows.dtype)
    full[: len(rows)] = rows
    return full
