"""The modalities: one file each. A new one is a file with a Reader and a spec in `schema`, and its line here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from tledge.modalities.image import ImageReader, WholeImageReader
from tledge.modalities.reader import Feed, Part, Reader, Shown, Source, describe
from tledge.modalities.sound import SoundReader
from tledge.modalities.text import TOKENIZER_KEY, TextReader
from tledge.modalities.vector import VectorReader
from tledge.schema import InputSpec, PreprocessSpec, SoundSpec, SpectrogramSpec, TextSpec, VectorSpec

__all__ = [
    "KEPT_METADATA",
    "READERS",
    "SPECS",
    "Feed",
    "Part",
    "Reader",
    "Shown",
    "Source",
    "preprocess",
    "reader",
    "spec_from",
]

_READERS = (ImageReader, VectorReader, SoundReader, TextReader)
READERS: dict[str, type[Reader]] = {each.kind: each for each in _READERS}
SPECS: dict[str, type[Any]] = {"image": PreprocessSpec, "vector": VectorSpec, "audio": SoundSpec, "text": TextSpec}
# What a reader finds in the metadata of a backbone's file, and must find again in that of the model.
KEPT_METADATA = (TOKENIZER_KEY,)
_NONE: Mapping[str, str] = MappingProxyType({})


def reader(spec: InputSpec, metadata: Mapping[str, str] = _NONE, *, whole: bool = False) -> Reader:
    """Return what reads samples for a graph that takes what `spec` says; `metadata` is that of its file.

    With `whole` the graph takes pictures of any size. Raises ModelError when the metadata lacks what the reader needs.
    """
    return (WholeImageReader if whole else READERS[spec.kind])(spec, metadata)


def spec_from(values: Mapping[str, Any]) -> InputSpec:
    """Return the spec that stands as `values` in a document. Raises KeyError or TypeError for other names."""
    spectrogram = values.get("spectrogram")
    inner = {} if spectrogram is None else {"spectrogram": SpectrogramSpec(**spectrogram)}
    return SPECS[values.get("kind", "image")](**{**values, **inner})


def preprocess(samples: Iterable[Source], spec: InputSpec) -> np.ndarray:
    """Return a batch of N samples as the graph takes it, [N, …]: what `Predictor` does before it runs the graph.

    Raises DataError when a file cannot be read, and TypeError for what is no list of samples or no sample.
    """
    made = reader(spec)
    if isinstance(samples, str | bytes) or not isinstance(samples, Iterable) or made.is_one(samples):
        raise TypeError(f"Samples must be a list or an array of several; found {describe(samples)}.")
    rows = [row for sample in samples for row in made.named(sample)]
    return made.feed(rows)[spec.kind] if rows else np.empty((0, *made.blank.shape), made.blank.dtype)
