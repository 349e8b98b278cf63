"""The edge side: a model file in, predictions out. Needs numpy and onnxruntime, for files Pillow and simplejpeg.

from tledge.runtime import Predictor
predictor = Predictor("model.onnx")
predictor(["new.jpg"])[0].label
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import fields
from itertools import compress
from pathlib import Path
from typing import Any, get_args

import numpy as np

from tledge import decisions, engine, feed, modalities
from tledge.errors import ModelError
from tledge.schema import (
    GoldenSample,
    GraphInput,
    InputSpec,
    Manifest,
    Precision,
    Prediction,
    Target,
)
from tledge.seal import check_seal

MANIFEST_KEY = "tledge.manifest"
MANIFEST_VERSION = 1
BATCH = 16
_WHOLE = 4
_PLAIN = {"str": str, "int": int, "float": int | float, "bool": bool, "tuple[str, ...]": tuple}
Sources = Sequence[modalities.Source] | modalities.Source


class Predictor:
    """A model file, ready to run.

    `provider` is as `engine.open_session` takes it; `threads` defaults to one per core; `tune` are onnxruntime's
    session config entries. `nodes_elsewhere` are those that do not run on `provider`, None where onnxruntime does not
    tell. The file is checked before it is run: raises ModelError when it is not there, not ours, changed since it was
    exported, or does not fit its own manifest, EngineError when onnxruntime or the provider is missing, or nodes would
    run elsewhere than they may.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        provider: str = "auto",
        threads: int | None = None,
        tune: dict[str, str] | None = None,
    ) -> None:
        self.path = Path(model)
        content = _read(self.path)
        self.digest = check_seal(content, str(self.path))
        self.bytes = len(content)
        self.session = engine.open_session(content, provider=provider, threads=threads, name=str(self.path), tune=tune)
        self.manifest, self.reader = _manifest(self.session, self.path)
        self.input = feed.input_of(self.session)
        self.provider = engine.active_provider(self.session)
        self.nodes_elsewhere = engine.nodes_elsewhere(self.session, content)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the probabilities."""
        return self.manifest.classes

    @property
    def at_once(self) -> int:
        """How many samples to have in memory at a time: whole batches, or a few pictures, which may be large."""
        batch = self.input.batch or 1
        return _WHOLE if self.manifest.input == "image" else -(-BATCH // batch) * batch

    def __call__(self, samples: Sources) -> list[Prediction]:
        """Return one prediction per sample: paths, bytes of files, arrays, of a model of texts the texts themselves.

        Pictures are uint8 arrays [H, W, 3] or [H, W] of any size, vectors arrays [length]; one array [N, …] will do as
        well. Raises DataError for a file that cannot be read, TypeError for an array of another type or shape.
        """
        listed = self.reader.listed(samples)
        rows = self.probabilities(listed)
        names = (os.fspath(item) if isinstance(item, str | os.PathLike) else "" for item in listed)
        return [self.prediction(name, row) for name, row in zip(names, rows, strict=True)]

    def probabilities(self, samples: Sources) -> np.ndarray:
        """Return float32 [N, classes], rows in the order of `samples` (as for a call)."""
        listed = self.reader.listed(samples)
        starts = range(0, len(listed), self.at_once)
        parts = [self._pooled(listed[start : start + self.at_once]) for start in starts]
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty((0, len(self.classes)), np.float32)

    def _pooled(self, samples: list[modalities.Source]) -> np.ndarray:
        return self.run_windows([self.reader.named(sample) for sample in samples])

    def run_windows(self, samples: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
        """Return float32 [N, classes] of N samples, each the rows that `reader` made of it: the mean over these."""
        found = self.run([row for rows in samples for row in rows])
        counts = [len(rows) for rows in samples]
        if len(found) == len(counts):
            return found
        starts = np.cumsum([0, *counts[:-1]])
        return np.add.reduceat(found, starts, axis=0) / np.array(counts, np.float32)[:, None]

    def run(self, rows: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 [N, classes] of rows as `reader` makes them, a list or one array [N, …]."""
        return feed.probabilities(self.session, self.input, rows, self.reader)

    def prediction(self, path: str, row: np.ndarray) -> Prediction:
        """Name the probabilities in `row` float32 [classes] of the picture at `path`.

        `label` is what the model decides on; of several labels, the most probable.
        """
        classes, thresholds = self.manifest.classes, self.manifest.thresholds
        values: list[float] = row.tolist()
        named = dict(zip(classes, values, strict=True))
        # In few steps: after a run of the network, each of them finds the processor's caches cold.
        if not self.manifest.multilabel:
            best = int(decisions.chosen(row[None], thresholds)[0])
            return Prediction(path, classes[best], values[best], named, (classes[best],))
        best = int(row.argmax())
        decided = decisions.predicted(row[None], thresholds, multilabel=True)[0]
        return Prediction(path, classes[best], values[best], named, tuple(compress(classes, decided)))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"Model file {path} cannot be read: {error.strerror}.", "Check the path.") from error


def _manifest(session: Any, path: Path) -> tuple[Manifest, modalities.Reader]:
    metadata = engine.metadata(session)
    text = metadata.get(MANIFEST_KEY, "")
    hint = "Upgrade tledge here, or export the model again."
    try:
        manifest = _parsed(text)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path} holds no manifest that this version of tledge reads.", hint) from error
    reader = modalities.reader(manifest.preprocess, metadata, whole=manifest.input == "image")
    if not _fits(reader, manifest, session):
        raise ModelError(f"The graph in {path} takes or gives other arrays than its manifest says.", hint)
    return manifest, reader


def _parsed(text: str) -> Manifest:
    raw = json.loads(text)
    if raw["schema_version"] != MANIFEST_VERSION:
        raise ValueError("another version of the manifest")
    raw["preprocess"] = modalities.spec_from({key: _tupled(value) for key, value in raw["preprocess"].items()})
    raw["golden"] = tuple(GoldenSample(**{key: _tupled(value) for key, value in g.items()}) for g in raw["golden"])
    manifest = Manifest(**{key: _tupled(value) for key, value in raw.items()})
    _check_types(manifest)
    _check_types(manifest.preprocess)
    _check_words(manifest)
    return manifest


def _check_types(document: Manifest | InputSpec) -> None:
    for field in fields(document):
        value = getattr(document, field.name)
        if not isinstance(value, _PLAIN.get(field.type, object)):
            raise TypeError(f"'{field.name}' is {value!r}")


def _check_words(manifest: Manifest) -> None:
    known = [(manifest.precision, get_args(Precision)), (manifest.target, get_args(Target))]
    if any(word not in words for word, words in [*known, (manifest.input, get_args(GraphInput))]):
        raise ValueError("an unknown word")
    if manifest.input == "image" and manifest.preprocess.kind != "image":
        raise ValueError("only pictures have a size")
    modalities.READERS[manifest.preprocess.kind].check(manifest.preprocess)
    if any(not isinstance(name, str) for name in manifest.classes):
        raise TypeError("class names are text")
    if manifest.thresholds and len(manifest.thresholds) != len(manifest.classes):
        raise ValueError("a threshold for each class")


def _fits(reader: modalities.Reader, manifest: Manifest, session: Any) -> bool:
    inputs = {each.name: (each.type, list(each.shape[1:])) for each in session.get_inputs()}
    outputs = {each.name: (each.type, list(each.shape[1:])) for each in session.get_outputs()}
    rows = ("tensor(float)", [len(manifest.classes)])
    return inputs == reader.inputs() and outputs == {"probabilities": rows}


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
