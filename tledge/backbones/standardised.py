"""No backbone at all: vectors are the features, each number in units of its spread, as one ONNX graph."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from tledge.backbones import kept_files
from tledge.errors import MissingExtra
from tledge.graph_writer import GraphWriter
from tledge.schema import Backbone, VectorSpec


def standardised(vectors: np.ndarray, cache_dir: Path, columns: tuple[str, ...] = ()) -> Backbone:
    """Return the graph `vector` float32 [N, length] → `features`: less the mean of `vectors`, over their deviation.

    `vectors` float32 [n, length] are those that a head is fitted to: columns of a table have units of their own, and
    heads soften the spread of one feature by that of all, which would drown the small ones. A number that never
    differs is only centred. `columns` are the names of the numbers, where they have any. Kept in
    `cache_dir`/backbones. Raises MissingExtra without onnx, OutputError when it cannot be written.
    """
    length = vectors.shape[1]
    mean, deviation = vectors.mean(axis=0, dtype=np.float64), vectors.std(axis=0, dtype=np.float64)
    constants = np.stack([mean, np.where(deviation > 0, deviation, 1)]).astype(np.float32)
    key = hashlib.sha256(constants.tobytes()).hexdigest()[:16]
    folder, stem = cache_dir / "backbones", f"none-{length}-{key}"
    kept = kept_files.find(folder, stem) or kept_files.keep(folder, stem, _graph(constants))
    return Backbone("none", kept.path, VectorSpec(length, columns=columns), length, kept.digest)


def _graph(constants: np.ndarray) -> bytes:
    """Return the graph that takes `constants` [2, length], mean and deviation."""
    if find_spec("onnx") is None:
        raise MissingExtra("onnx", "train")
    graph = GraphWriter()
    mean, deviation = (graph.constant(*each) for each in zip(("mean", "deviation"), constants, strict=True))
    graph.node("Div", [graph.node("Sub", ["vector", mean], "centre", ["centred"]), deviation], "scale", ["features"])
    given, made = ((name, np.float32, ["N", constants.shape[1]]) for name in ("vector", "features"))
    return graph.model("none", [given], [made]).SerializeToString(deterministic=True)
