"""What an ONNX file says of its own preprocessing, in its metadata.

Keys are those of the JSON file beside a network (`mean`, `std`, `channel_order`, `input_size`), one by one or together
under `preprocess`; `imgsz` is what detectors of the YOLO family write, whose pixels are those of 0..255 divided by 255.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tledge.errors import BackboneError
from tledge.schema import BackboneOptions

_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


def read_metadata(model: Any, name: str) -> BackboneOptions:
    """Return what the metadata of `model` says of mean, std, channel order and input size.

    Mean and std that are at most 1 are taken as those of pixels in 0..1, and given in 0..255 units. `name` is what to
    call the file. Raises BackboneError for a value that cannot be.
    """
    found = {entry.key: entry.value for entry in model.metadata_props}
    found |= _together(found.get("preprocess", ""))
    mean, std = (_numbers(found, key, name) for key in ("mean", "std"))
    if mean is None and std is None and "imgsz" in found:
        mean, std, found["channel_order"] = (0.0,), (255.0,), "rgb"
    if std and max(std) <= 1 and max(mean or (0.0,)) <= 1:
        mean, std = (values and tuple(value * 255 for value in values) for values in (mean, std))
    order = found.get("channel_order", "").lower() or None
    if order not in (None, "rgb", "bgr"):
        raise BackboneError(f"channel_order in the metadata of {name} must be rgb or bgr, but is {order!r}.", _INSTEAD)
    return BackboneOptions(mean=mean, std=std, channel_order=order, input_size=_size(found))


_INSTEAD = "Give it with --mean, --std, --channel-order; those come first."


def read_licence(model: Any) -> str:
    """Return the licence that the metadata of `model` names, or nothing."""
    found = {entry.key.lower(): entry.value for entry in model.metadata_props}
    return (found.get("license") or found.get("licence") or "")[:80]


def _together(text: str) -> dict[str, str]:
    try:
        content = json.loads(text)
    except ValueError:
        return {}
    return {key: str(value) for key, value in content.items()} if isinstance(content, dict) else {}


def _numbers(found: dict[str, str], key: str, name: str) -> tuple[float, ...] | None:
    if key not in found:
        return None
    values = tuple(float(text) for text in re.findall(_NUMBER, found[key]))
    if len(values) not in (1, 3) or (key == "std" and min(values) <= 0):
        raise BackboneError(f"{key} in the metadata of {name} must be one number or three: {found[key]!r}.", _INSTEAD)
    return values


def _size(found: dict[str, str]) -> int | None:
    numbers = re.findall(r"\d+", found.get("input_size") or found.get("imgsz") or "")
    return int(numbers[-1]) or None if numbers else None
