"""What is known of the sounds that a network of the user's own hears: from the file's metadata, or a JSON beside it.

The object `{"rate": 16000, "samples": 15600, "spectrogram": {"window": 400, "hop": 160, "fft": 512, "bands": 64}}`, any
part of it, stands under `tledge.sound` in an ONNX file's metadata, or under `sound` in the JSON file of
preprocess_hints. `window_s` may stand in place of `samples`; `spectrogram` has the fields of SpectrogramSpec; `mean`
and `std` are those of samples, or of the spectrogram's numbers.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tledge.backbones import preprocess_hints
from tledge.errors import BackboneError, did_you_mean
from tledge.schema import SpectrogramSpec

METADATA_KEY = "tledge.sound"
_KEYS = ("rate", "samples", "window_s", "spectrogram", "mean", "std")
_LARGEST = {"rate": 384_000, "samples": 2**23, "window": 2**16, "hop": 2**16, "fft": 2**16, "bands": 1024, "power": 2}
_LEAST = {"rate": 100, "bands": 0}
_TRANSFORM = {field.name: str(field.type) for field in fields(SpectrogramSpec)}


@dataclass(frozen=True, slots=True)
class SoundHints:
    """What was said, checked; None and missing keys were not. `spectrogram` has fields of SpectrogramSpec."""

    rate: int | None = None
    samples: int | None = None
    window_s: float | None = None
    spectrogram: dict[str, Any] | None = None
    mean: float | None = None
    std: float | None = None


def beside(path: Path) -> SoundHints | None:
    """Return what the JSON file beside the network at `path` says of sounds; None where it says nothing of them.

    Raises BackboneError for what cannot be.
    """
    file, content = preprocess_hints.beside(path)
    return read(content["sound"], str(file)) if file and "sound" in content else None


def within(metadata: dict[str, str], name: str) -> SoundHints | None:
    """Return what the `metadata` of the ONNX file called `name` says of sounds; None where it says nothing of them."""
    if METADATA_KEY not in metadata:
        return None
    try:
        content = json.loads(metadata[METADATA_KEY])
    except (ValueError, RecursionError) as error:
        raise BackboneError(f"{METADATA_KEY} in the metadata of {name} is no JSON.", "Correct it.") from error
    return read(content, f"{METADATA_KEY} in the metadata of {name}")


def read(content: Any, where: str) -> SoundHints:
    """Return `content`, out of JSON, checked; `where` is where it stands."""
    given = _object(content, _KEYS, where)
    transform = given.get("spectrogram")
    if transform is not None:
        transform = _object(transform, tuple(_TRANSFORM), where)
        for key, value in transform.items():
            _check(key, value, _TRANSFORM[key], where)
    for key, kind in (("rate", "int"), ("samples", "int"), ("window_s", "float"), ("mean", "float"), ("std", "float")):
        if given.get(key) is not None:
            _check(key, given[key], kind, where)
    return SoundHints(**given | {"spectrogram": transform})


def _object(content: Any, keys: tuple[str, ...], where: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise BackboneError(f"The sound in {where} must be an object.", f"It may have the keys {', '.join(keys)}.")
    for key in content.keys() - set(keys):
        raise BackboneError(f"The sound in {where} has an unknown key {key!r}.", did_you_mean(key, keys))
    return {key: value for key, value in content.items() if value is not None}


def _check(key: str, value: Any, kind: str, where: str) -> None:
    if kind == "bool":
        holds, must = type(value) is bool, "true or false"
    elif kind == "int":
        least, largest = _LEAST.get(key, 1), _LARGEST[key]
        holds, must = type(value) is int and least <= value <= largest, f"a whole number from {least} to {largest}"
    else:
        holds, must = type(value) in (int, float) and math.isfinite(value), "a number"
        if key != "mean":
            above = key in ("std", "window_s", "floor")
            holds, must = (
                holds and (value > 0 if above else value >= 0),
                f"a number {'above' if above else 'of at least'} 0",
            )
    if not holds:
        raise BackboneError(f"{key} in {where} must be {must}, but is {value!r}.", "Correct it.")
