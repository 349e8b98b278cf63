"""The manifest: what a model file says of itself, written into its own ONNX metadata and sealed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tledge import __version__
from tledge.modalities import KEPT_METADATA, Reader
from tledge.runtime import MANIFEST_KEY, MANIFEST_VERSION
from tledge.schema import GoldenSample, Manifest
from tledge.seal import seal

if TYPE_CHECKING:
    import onnx

__all__ = ["GOLDEN_SAMPLES", "MANIFEST_VERSION", "golden_samples", "stamp"]

GOLDEN_SAMPLES = 4
_LATER = ("target", "input")


def stamp(model: onnx.ModelProto, manifest: Manifest) -> bytes:
    """Return the bytes of `model` with `manifest` in its metadata, sealed.

    What came into the manifest later stands in it only where it is not as it was before, so that an older tledge reads
    all that it can run. Besides the manifest, class names, preprocessing and precision stand in entries of their own,
    so that a program without a JSON schema of ours can read them.
    """
    entries = {
        MANIFEST_KEY: json.dumps(_document(manifest), sort_keys=True),
        "classes": json.dumps(manifest.classes),
        "preprocess": json.dumps(asdict(manifest.preprocess), sort_keys=True),
        "precision": manifest.precision,
    }
    if manifest.input != "tensor":
        entries["input"] = manifest.input
    entries |= {each.key: each.value for each in model.metadata_props if each.key in KEPT_METADATA}
    model.producer_version = __version__
    del model.metadata_props[:]
    for key, value in entries.items():
        model.metadata_props.add(key=key, value=value)
    return seal(model.SerializeToString(deterministic=True))


def _document(manifest: Manifest) -> dict[str, Any]:
    document = asdict(manifest)
    for field in fields(manifest):
        if field.name in _LATER and document[field.name] == field.default:
            del document[field.name]
    return document


def golden_samples(
    rows: Sequence[np.ndarray], reader: Reader, run: Callable[[list[np.ndarray]], np.ndarray]
) -> tuple[GoldenSample, ...]:
    """Return `rows` of `reader` as golden samples, each with what `run` gives, float32 [n, classes], for it as kept."""
    kept = [reader.to_golden(row) for row in rows]
    found = run([reader.from_golden(sample) for sample in kept])
    return tuple(
        replace(sample, probabilities=tuple(map(float, expected))) for sample, expected in zip(kept, found, strict=True)
    )
